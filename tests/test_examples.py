"""Every block of code in README.md and docs/ does, as it stands, what is said there.

- A `python` block is run in a namespace of its own, as if it were pasted into a file; an `sh` block
  is given to a shell. Both have an empty directory to work in.
- The `text` block that follows, if there is one, is what it prints; `...` there may be anything.
  A block that has none prints nothing.
- A comment before a block, `<!-- example: ... -->`, says what is different about it: `needs jq`, a
  program or module without which it is skipped; `hangs`, and then it has to; or `not run: ...` with
  the reason, for which it is skipped.
"""

import doctest
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, List

import pytest
from sybil import Document, Example, Region
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown.lexers import DirectiveInHTMLCommentLexer, FencedCodeBlockLexer

from tests.support import PROMPT, REPOSITORY

ROOT = Path(REPOSITORY)
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

#: Seconds after which what is to hang has done so: otherwise it would end in much less.
HANG = 1.0

_fences = FencedCodeBlockLexer(".*")
_remarks = DirectiveInHTMLCommentLexer("example")


def _parse(document: Document) -> Iterator[Region]:
    """The blocks to be run, with what is said of each (`remark`) and what it prints (`wanted`)."""
    remark, remark_end = "", 0
    printer = None
    for region in sorted([*_fences(document), *_remarks(document)], key=_start):
        where = document.line_column(region.start)
        if "directive" in region.lexemes:
            assert not remark, f"{where}: the remark before this one has no block"
            remark, remark_end = region.lexemes["arguments"], region.end
            continue
        language = region.lexemes["language"]
        if language in {"python", "sh"}:
            between = document.text[remark_end : region.start].split()
            assert not remark or between == ["-->"], f"{where}: another remark, or none, is near"
            region.lexemes.update(remark=remark, wanted="")
            region.parsed = region.lexemes["source"]
            region.evaluator = _run_python if language == "python" else _run_shell
            printer, remark = region, ""
            yield region
        elif language == "text":
            assert printer is not None, f"{where}: nothing prints this"
            printer.lexemes["wanted"] = region.lexemes["source"]
            printer = None
        else:
            # Drawn, or a directive of the site's.
            assert language == "mermaid" or language.startswith("{"), f"{where}: {language}?"
    assert not remark, f"no block for {remark!r}"


def _start(region: Region) -> int:
    return region.start


def _run_python(example: Example) -> None:
    """Run it here. A traceback shows lines of the document."""
    example.namespace = {"__name__": "__main__"}
    try:
        PythonEvaluator()(example)
    finally:
        example.namespace = {}  # the example outlives its run


def _run_shell(example: Example) -> None:
    """Run it. What it prints is captured like what is printed here."""
    subprocess.run(["sh", "-e", "-c", example.parsed], check=True, timeout=10 * PROMPT)


def _examples() -> List[Any]:
    return [
        pytest.param(example, id=f"{path.relative_to(ROOT).as_posix()}:{example.line}")
        for path in DOCUMENTS
        for example in Document.parse(str(path), _parse)
    ]


def _is_installed(name: str) -> bool:
    return shutil.which(name) is not None or importlib.util.find_spec(name) is not None


@pytest.mark.skipif(sys.platform == "win32", reason="the examples use programs of POSIX")
@pytest.mark.parametrize("example", _examples())
def test_example(
    example: Example,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It runs, and prints what follows it."""
    monkeypatch.chdir(tmp_path)
    remark, _, detail = example.region.lexemes["remark"].partition(" ")
    if remark == "hangs":
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run([sys.executable, "-c", example.parsed], timeout=HANG, check=False)
        return
    if remark == "not":
        pytest.skip(f"not {detail}")
    assert remark in {"", "needs"}, remark
    for name in detail.split():
        if not _is_installed(name):
            pytest.skip(f"{name} is not installed")
    example.evaluate()
    printed = capfd.readouterr()
    wanted = doctest.Example(example.parsed, example.region.lexemes["wanted"])
    checker = doctest.OutputChecker()
    if not checker.check_output(wanted.want, printed.out, doctest.ELLIPSIS):
        pytest.fail(checker.output_difference(wanted, printed.out, doctest.REPORT_NDIFF))
    assert printed.err == ""


def test_there_are_examples() -> None:
    """Else all would be well without any."""
    assert sum(1 for _ in Document.parse(str(DOCUMENTS[0]), _parse)) >= 5
    assert len(DOCUMENTS) >= 15
