"""Compares what has come from a child with what it has written."""

from typing import Dict, List, Tuple

from stress.pattern import difference, flipped

STDOUT, STDERR = "stdout", "stderr"


class Ledger:
    """The bytes of one child."""

    def __init__(self, stdout: bytes, stderr: bytes) -> None:
        self._expected = {STDOUT: stdout, STDERR: stderr}
        self._got: Dict[str, List[bytes]] = {STDOUT: [], STDERR: []}
        #: A fault has cut the child or its streams short: a prefix is enough.
        self.cut_short = False

    def add(self, stream: str, data: bytes) -> None:
        """The next bytes have come."""
        self._got[stream].append(data)

    def got(self, stream: str) -> bytes:
        """All that has come."""
        return b"".join(self._got[stream])

    def problems(self) -> List[str]:
        """What is wrong, in words."""
        found = []
        for stream, expected in self._expected.items():
            got = self.got(stream)
            differs = difference(expected[: len(got)] if self.cut_short else expected, got)
            if differs is not None:
                found.append(f"{stream}: {differs}")
        return found


class Conversation(Ledger):
    """Records that are sent, and come back on stdout, and with all bits flipped on stderr."""

    def __init__(self) -> None:
        super().__init__(b"", b"")
        #: The records, and whether each is certain to have been handed over: a caller that was
        #: interrupted in the middle of a write does not know.
        self.sent: List[Tuple[bytes, bool]] = []

    def problems(self) -> List[str]:
        stdout, stderr = self.got(STDOUT), self.got(STDERR)
        lines = stdout.splitlines(keepends=True)
        if self.cut_short and lines and not lines[-1].endswith(b"\n"):
            lines.pop()
        found = check_records(self.sent, lines, self.cut_short)
        size = min(len(stdout), len(stderr)) if self.cut_short else len(stdout)
        differs = difference(flipped(stdout)[:size], stderr[: size if self.cut_short else None])
        return found if differs is None else [*found, f"stderr: {differs}"]


def check_records(sent: List[Tuple[bytes, bool]], got: List[bytes], cut_short: bool) -> List[str]:
    """Compare the records that came back with those that were sent.

    Args:
        sent: the records, and whether each is certain to have been handed over.
        got: the records that came back.
        cut_short: whether records may be missing at the end.

    Returns:
        What is wrong, in words.
    """
    left = list(got)
    for record, certain in sent:
        if left and left[0] == record:
            left.pop(0)
        elif not left and cut_short:
            return []
        elif certain:
            came = f"{left[0][:20]!r} came" if left else "nothing came"
            return [f"{came} in place of {record[:20]!r}"]
    return [f"{left[0][:20]!r} was not sent, or not then"] if left else []
