"""Starts the collectors, each in a separate process, and gathers their samples."""

import json
import subprocess
import sys
import tempfile
import threading
from typing import IO, Any, Dict, List, Sequence

from stress import session
from stress.soak.drift import Sample, Verdict, judge

#: Seconds for a collector to end when its time is up, or to report again.
_PATIENCE = 60.0

#: Makes the C library return large blocks at once. By default glibc keeps them after the first few,
#: and cannot return them while a small block lies behind them, so a soak would sometimes show a
#: step that is not a leak.
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "131072"}


class Watched:
    """One running collector."""

    def __init__(self, name: str, seconds: float, interval: float) -> None:
        self.name = name
        self.samples: List[Sample] = []
        self.problems: List[str] = []
        self._complaints: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `end`
        command = [sys.executable, "-m", "stress.soak.collector"]
        command += [name, str(seconds), str(interval)]
        self._process = session.start(command, subprocess.PIPE, self._complaints, **_ALLOCATOR)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.samples.append(Sample(*json.loads(line)))

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return not self._reader.is_alive()

    @property
    def throughput(self) -> float:
        """Bytes per second that it has verified lately."""
        recent = self.samples[-10:]
        if len(recent) < 2:
            return 0.0
        return (recent[-1].bytes - recent[0].bytes) / (recent[-1].seconds - recent[0].seconds)

    def end(self, patience: float = _PATIENCE) -> None:
        """Wait until it has ended, and how."""
        self._reader.join(patience)
        if self._reader.is_alive():
            self.problems.append(f"it has not come to an end within {patience:g} seconds")
        session.end(self._process)
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._complaints.seek(0)
        last_words = self._complaints.read().decode(errors="replace").strip()
        self._complaints.close()
        if self._process.returncode != 0 and not self.problems:
            self.problems.append(last_words or f"exit code {self._process.returncode}")

    @property
    def verdict(self) -> Verdict:
        """What has become of it."""
        return judge(self.samples, self.problems)


def as_json(watched: Sequence[Watched], whats: Dict[str, str], minutes: float) -> Dict[str, Any]:
    """All of it, for the report; its shape is documented in `stress.report`."""
    return {
        "minutes": minutes,
        "collectors": [
            {
                "name": one.name,
                "what": whats[one.name],
                "verdict": {**one.verdict._asdict(), "problems": list(one.verdict.problems)},
                "fields": list(Sample._fields),
                "samples": [list(sample) for sample in one.samples],
            }
            for one in watched
        ],
    }
