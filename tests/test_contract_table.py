"""`docs/contract.md` names tests that exist, for every rule and both variants, and none is missing.

A file of tests is about a rule if its docstring begins with `Rule` and its number. Nothing is
imported or run to find out: the files are parsed.
"""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Dict, FrozenSet, List, Set, Union

import pytest

from tests.support import REPOSITORY
from tests.support import ROOT as LIBRARY

ROOT = Path(REPOSITORY)
DOCS = ROOT / "docs"
RULES = range(1, 12)
BOTH = frozenset({"synchronous", "asyncio"})

#: A file of this repository, and perhaps something in it: `tests/test_api.py::test_names`.
REFERENCE = re.compile(r"\b((?:process|stress|tests)/[\w/]+\.py)(?:::(\w+))?")

#: The columns of the table that stand for a variant; the one after them is about their core.
COLUMNS = ["synchronous", "asyncio"]


def find(path: str) -> Path:
    """The file, by its path in the repository; the package may be installed elsewhere."""
    return Path(LIBRARY if path.startswith("process/") else ROOT, path)


@cache
def module(path: str) -> ast.Module:
    """The parsed file, by its path in the repository."""
    return ast.parse(find(path).read_text(encoding="utf-8"))


def contents(path: str) -> Dict[str, FrozenSet[str]]:
    """The tests in a file, and the variants that each of them is about."""
    return {
        node.name: variants_of(node)
        for node in module(path).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.name.startswith("test_")
    }


def variants_of(test: Union[ast.FunctionDef, ast.AsyncFunctionDef]) -> FrozenSet[str]:
    """The variants that a test is about: by its fixtures, or, for `test_an_async…`, by its name."""
    arguments = {argument.arg for argument in test.args.args}
    if arguments & {"kit", "variant"}:
        return BOTH
    if "loops" in arguments or test.name.startswith("test_an_async"):
        return frozenset({"asyncio"})
    return frozenset({"synchronous"})


def rules_of(path: str) -> Set[int]:
    """The rules that a file says it holds."""
    held = re.match(r"Rules? (\d+(?:(?:, | and )\d+)*):", ast.get_docstring(module(path)) or "")
    return {int(number) for number in re.findall(r"\d+", held.group(1))} if held else set()


def table() -> Dict[int, List[str]]:
    """The cells of the table, by rule."""
    rows: Dict[int, List[str]] = {}
    for line in (DOCS / "contract.md").read_text(encoding="utf-8").splitlines():
        row = re.match(r"\| (\d+)\b[^|]*\|(.*)\|$", line)
        if row:
            assert int(row.group(1)) not in rows, f"rule {row.group(1)} has two rows"
            rows[int(row.group(1))] = row.group(2).split("|")
    return rows


def test_every_rule_has_a_row_and_a_text() -> None:
    """The table has the eleven rules in their order, and so has the text above it."""
    assert list(table()) == list(RULES)
    headings = re.findall(
        r"^### (\d+)\. ", (DOCS / "contract.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert [int(number) for number in headings] == list(RULES)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("variant", COLUMNS)
def test_every_rule_is_tested_for_both_variants(rule: int, variant: str) -> None:
    """In each column there is a test, and whatever the column names is about its variant."""
    references = REFERENCE.findall(table()[rule][COLUMNS.index(variant)])
    assert references
    for path, name in references:
        tests = contents(path)
        named = [tests[name]] if name else list(tests.values())
        assert any(variant in variants for variants in named), (path, name)


@pytest.mark.parametrize("rule", RULES)
def test_no_file_that_holds_a_rule_is_missing(rule: int) -> None:
    """A file that says it holds a rule is in the row of that rule."""
    named = {path for path, _ in REFERENCE.findall(" ".join(table()[rule]))}
    paths = (path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py"))
    assert {path for path in paths if rule in rules_of(path)} <= named


@pytest.mark.parametrize("document", sorted(path.name for path in DOCS.glob("*.md")))
def test_what_the_documentation_refers_to_exists(document: str) -> None:
    """Files, and the tests in them, are called what the documents call them."""
    for path, name in REFERENCE.findall((DOCS / document).read_text(encoding="utf-8")):
        assert find(path).is_file(), path
        if name:
            assert name in contents(path), f"{path}::{name}"
