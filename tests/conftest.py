"""Runs tests that are coroutine functions, and looks for leaks after each test."""

import contextlib
import gc
import inspect
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Iterator, List, Optional

import pytest

from process.threads import _monitor
from tests.support import (
    FOREVER,
    Kit,
    collect,
    descriptors,
    freeze,
    loop_parameters,
    make_loop,
    unfreeze,
)


@pytest.fixture(params=["sync", *loop_parameters()])
def kit(request: pytest.FixtureRequest) -> Kit:
    """Both variants, the asyncio one on both loops."""
    return Kit(request.param)


@pytest.fixture(params=loop_parameters())
def loops(request: pytest.FixtureRequest) -> Kit:
    """The asyncio variant on both loops."""
    return Kit(request.param)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Nothing is freed but by reference counts, or where the test says so."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def forgotten_descriptors() -> Iterator[None]:
    """The watcher of asyncio (3.12) forgets a descriptor when its loop is closed too early."""
    before = set(descriptors() or [])
    yield
    gc.collect()
    for entry in set(descriptors() or []) - before:
        assert entry.endswith("[pidfd]")
        os.close(int(entry.split()[0]))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Optional[bool]:
    """A test that is a coroutine function is run by its kit."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    kit = arguments.get("kit") or arguments["loops"]
    assert isinstance(kit, Kit)
    kit.run(pyfuncitem.obj(**arguments))
    return True


@contextlib.contextmanager
def _looking_again(interval: float) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:  # not the one of the test, which is undone later
        patch.setattr(_monitor, "LOOK_AGAIN", interval)
        yield


@pytest.fixture(autouse=True)
def _nobody_looks_again() -> Iterator[None]:
    """A wake-up that is lost is a hang in the tests, and not a delay."""
    with _looking_again(FOREVER):
        yield


@pytest.fixture
def looks_again() -> Iterator[None]:
    """For tests with signals, which may wake nobody (`process/threads/_monitor.py`)."""
    with _looking_again(0.01):
        yield


@pytest.fixture(scope="session", autouse=True)
def _uvloop_is_warm() -> None:
    """The first loop of uvloop's makes a pipe for signals that stays for good."""
    with contextlib.suppress(ImportError):
        make_loop("uvloop").close()


@pytest.fixture(scope="session", autouse=True)
def _old_objects_are_frozen() -> Iterator[None]:
    """What has been found to be in use, before a test or after one, is not searched again."""
    gc.collect()
    freeze()
    yield
    unfreeze()


@pytest.fixture(scope="session", autouse=True)
def _temporary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where `tempfile` makes its files, for us alone: other programs make theirs elsewhere."""
    directory = tmp_path_factory.mktemp("temporary")
    before, tempfile.tempdir = tempfile.tempdir, str(directory)
    yield directory
    tempfile.tempdir = before


@pytest.fixture(autouse=True)
def _no_leaks(_temporary: Path) -> Iterator[None]:
    """No test leaves a descriptor, a thread, a child or a temporary file behind."""
    before = descriptors(after_collection=True)  # that of the test before
    threads = set(threading.enumerate())
    yield
    # What a test has released may need a moment: a thread that was told to end, for example.
    deadline = time.monotonic() + 5
    while True:
        # First the threads: what one has kept to its end is collected then, rather than frozen.
        left = [repr(thread) for thread in threading.enumerate() if thread not in threads]
        collect()
        left += _left(before) + [str(path) for path in _temporary.iterdir()]
        if not left:
            break
        if time.monotonic() > deadline:
            pytest.fail("left behind: " + "; ".join(left))
        time.sleep(0.001)
    freeze()


def _left(descriptors_before: Optional[List[str]]) -> List[str]:
    left = []
    after = descriptors(after_collection=True)
    if after is not None and descriptors_before is not None:
        left += [entry for entry in after if entry not in descriptors_before]
    if sys.platform != "win32":  # there a process is not its parent's
        with contextlib.suppress(ChildProcessError):
            pid, status = os.waitpid(-1, os.WNOHANG)
            left.append(f"zombie {pid} (status {status})" if pid else "a child that runs")
    return left


def pytest_assertrepr_compare(op: str, left: object, right: object) -> Optional[List[str]]:
    """Say where megabytes differ; the difference of all their bytes takes minutes to find."""
    if op != "==" or not (isinstance(left, bytes) and isinstance(right, bytes)):
        return None
    if max(len(left), len(right)) < 10_000:
        return None
    size = min(len(left), len(right))
    low, high = 0, size  # the first difference lies at `low` or beyond, not beyond `high`
    while low < high:
        middle = (low + high) // 2
        if left[low : middle + 1] == right[low : middle + 1]:
            low = middle + 1
        else:
            high = middle
    piece = left[low : low + 32]
    return [
        f"{len(left)} bytes == {len(right)} bytes",
        f"first difference at {low}: {piece!r} is not {right[low : low + 32]!r}",
        f"it stands at {right.find(piece)} on the right" if piece else "the left ends there",
    ]
