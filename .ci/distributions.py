"""Checks the distributions in a directory: what is in them, what they say, and what they bring.

    python .ci/distributions.py DIRECTORY

The wheel has the package and nothing else; installed into an empty environment it brings one
dependency; and an example from the README works there.
"""

import email
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path
from typing import List, Set

ROOT = Path(__file__).parent.parent
PYTHON = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")


def find_one(directory: Path, pattern: str) -> Path:
    """The only file that matches."""
    found = list(directory.glob(pattern))
    assert len(found) == 1, f"{pattern}: {found}"
    return found[0]


def tracked(*directories: str) -> Set[str]:
    """The files of the repository in some directories."""
    command = ["git", "-C", str(ROOT), "ls-files", *directories]
    return set(subprocess.check_output(command, text=True).split())


def check_wheel(path: Path) -> None:
    """The package, `py.typed` included, and its metadata."""
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        info = next(name.split("/")[0] for name in names if name.endswith("/METADATA"))
        metadata = email.message_from_bytes(wheel.read(f"{info}/METADATA"))
    package = {name for name in names if not name.startswith(f"{info}/")}
    assert package == tracked("process"), package ^ tracked("process")
    assert "process/py.typed" in package
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert needed == ["typing-extensions"], needed
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.9"
    assert f"{info}/licenses/LICENSE" in names


def check_sdist(path: Path) -> None:
    """All that is needed to build, test and document the package."""
    with tarfile.open(path) as sdist:
        names = {name.split("/", 1)[1] for name in sdist.getnames() if "/" in name}
    missing = tracked("process", "tests", "stress", "docs", "LICENSE", "pyproject.toml") - names
    assert not missing, missing


def example() -> str:
    """The first script in the README that uses the library."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks: List[str] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return next(block for block in blocks if "from process import" in block)


def check_installed(wheel: Path) -> None:
    """One dependency, and it works."""
    with tempfile.TemporaryDirectory() as directory:
        venv.create(directory, with_pip=True)
        python = str(Path(directory, *PYTHON))

        def run(*arguments: str) -> str:
            return subprocess.check_output([python, *arguments], text=True, cwd=directory)

        before = set(run("-m", "pip", "list", "--format=freeze").split())
        run("-m", "pip", "install", "-q", str(wheel.resolve()))
        new = set(run("-m", "pip", "list", "--format=freeze").split()) - before
        names = {line.partition("==")[0].partition("@")[0].replace("_", "-") for line in new}
        assert names == {"process-pump", "typing-extensions"}, new
        where = Path(run("-c", "import process; print(process.__file__)").strip())
        assert Path(directory).resolve() in where.resolve().parents, where
        assert run("-c", example()) == "True\n"


def main() -> None:
    """Check, and say so."""
    directory = Path(sys.argv[1])
    wheel = find_one(directory, "*.whl")
    check_wheel(wheel)
    check_sdist(find_one(directory, "*.tar.gz"))
    check_installed(wheel)
    print(f"{wheel.name}: the package, one dependency, and it works")


main()
