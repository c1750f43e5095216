"""Starts the collectors, each in a process of its own, and gathers their samples."""

import json
import subprocess
import sys
import tempfile
import threading
from typing import IO, Any, Dict, List, Sequence

from stress import session
from stress.soak.drift import Sample, Verdict, judge

#: Seconds that a collector has to come to an end when its time is up, or to be heard of again.
_PATIENCE = 60.0

#: Makes the C library give large blocks back at once. By default glibc begins to keep them after
#: the first few; how much of that memory it can ever give back is decided by what small block comes
#: to lie behind it, and so a soak would show a step now and then that nobody has leaked.
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "131072"}


class Watched:
    """One collector under way."""

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
        """Whether it has come to its end, for better or worse."""
        return not self._reader.is_alive()

    @property
    def throughput(self) -> float:
        """Bytes a second that it has verified lately."""
        recent = self.samples[-10:]
        if len(recent) < 2:
            return 0.0
        return (recent[-1].bytes - recent[0].bytes) / (recent[-1].seconds - recent[0].seconds)

    def end(self, patience: float = _PATIENCE) -> None:
        """Wait until it has ended, and see how."""
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
