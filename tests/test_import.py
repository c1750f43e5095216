"""Importing `process` is cheap: nothing is loaded before it is needed."""

import subprocess
from pathlib import Path

import process
from tests.support import start_library


def run(script: str) -> None:
    """Run a script that asserts in an interpreter of its own."""
    done = subprocess.run(start_library(script), capture_output=True, check=False, timeout=50)
    assert (done.returncode, done.stderr) == (0, b"")


def test_import_leaves_asyncio_alone() -> None:
    """`import process`, and a synchronous run, load neither asyncio nor typing_extensions."""
    run("""
import process
from process import *
heavy = {"asyncio", "typing_extensions", "ssl", "socket", "tempfile", "logging", "process.asyncio"}
# A site module may have loaded some of them already, for all interpreters alike.
import subprocess as other
code = "import sys, subprocess; print(*sys.modules)"
before = set(other.run([sys.executable, "-c", code], capture_output=True).stdout.decode().split())
# The star import has asked for `AsyncProcess` by name, a plain one has not.
code = f"import sys; sys.path[:] = {sys.path!r}; import process; print(*sys.modules)"
after = set(other.run([sys.executable, "-c", code], capture_output=True).stdout.decode().split())
assert "process" in after
assert not (after - before) & heavy, (after - before) & heavy
""")


def test_running_leaves_asyncio_alone() -> None:
    """A synchronous process runs without asyncio."""
    run("""
had = "asyncio" in sys.modules
from process import Process
with Process([sys.executable, "-c", "print(input())"], stdin=b"x") as process:
    assert process.output().strip() == b"x"
assert had or "asyncio" not in sys.modules
""")


def test_what_run_needs_is_imported_where_no_signal_handler_runs() -> None:
    """A handler that raises in the middle of an import may leave the lock of a module locked."""
    run("""
import threading
from process import Process
class Finder:
    found = {}
    def find_spec(self, name, path, target=None):
        self.found[name] = threading.current_thread() is threading.main_thread()
sys.meta_path.insert(0, Finder())
Process([sys.executable, "-c", ""]).run().close()
assert Finder.found["process.threads._child"] is False, Finder.found
assert True not in Finder.found.values(), Finder.found
""")


def test_async_process_is_imported_on_first_use() -> None:
    """`AsyncProcess` is there, by attribute and by `from`, and is the asyncio one."""
    run("""
import process
assert "AsyncProcess" not in vars(process)
assert "AsyncProcess" in dir(process)
kind = process.AsyncProcess
import process.asyncio
assert kind is process.asyncio.Process is process.AsyncProcess
from process import AsyncProcess
assert AsyncProcess is kind
""")


def test_submodules_import_on_their_own() -> None:
    """Each public module can be the first to be imported."""
    for module in ("core", "core.types", "asyncio", "asyncio.types", "types", "utils", "constants"):
        run(f"import process.{module}")


def test_the_package_is_typed() -> None:
    """`py.typed` is there."""
    assert (Path(process.__file__).parent / "py.typed").is_file()
