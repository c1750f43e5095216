"""Rule 7: however a script ends, it ends at once, in silence, and its children with it."""

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from textwrap import indent
from typing import Dict, List, NamedTuple

import pytest

from tests.support import PROMPT, is_alive, loop_parameters, start_talkative

# The first test waits for the scripts of all of them.
pytestmark = pytest.mark.timeout(300)


class Script(NamedTuple):
    """A script, and how it is to end."""

    source: str
    exit_code: int = 0
    #: The last line of what it complains of.
    complaint: bytes = b""


class Result(NamedTuple):
    """How a script has ended."""

    exit_code: int
    stderr: bytes
    duration: float
    #: Those of its children that were there when it had ended.
    survivors: List[int]


#: What is running when the script ends.
_CHILDREN = {
    "sleep": "['sleep', '1000']",
    "yes": "['yes']",
    "deaf": "['sleep', '1000'], stdin=bytes(10_000_000)",
    "ignores SIGTERM": """[
        sys.executable, "-S", "-E", "-c",
        "import os, signal; signal.signal(15, signal.SIG_IGN); os.write(1, b'x'); signal.pause()",
    ]""",
}

#: Says which child there is, once it is as it should be.
_READY = """
if "SIG_IGN" in str(process.arguments):
    assert process.stdout.read(1) == b"x"
print(process.id, flush=True)
"""
_SYNC = "import atexit, subprocess, threading\nfrom process import Process\n"
_RUN = "process = Process({})\nprocess.run()" + _READY

#: How the script ends, with a child in place of the braces; and its exit code.
_ENDS = {
    "falls off": Script(_RUN),
    "sys.exit": Script(_RUN + "sys.exit(3)", 3),
    "an exception": Script(_RUN + "raise KeyError(5)", 1, b"KeyError: 5"),
    "in a block": Script(
        "with Process({}) as process:" + indent(_READY + "sys.exit(3)", "    "), 3
    ),
    "entered": Script("process = Process({})\nprocess.__enter__()" + _READY),
    "in a function": Script("def main():\n" + indent(_RUN + "sys.exit(3)", "    ") + "\nmain()", 3),
    "many": Script(
        "processes = [Process({}).run() for _ in range(10)]\nfor process in processes:"
        + indent(_READY, "    ")
    ),
    "a daemon thread waits": Script(
        _RUN + "threading.Thread(target=process.join, daemon=True).start()"
    ),
    "a daemon thread reads": Script(
        _RUN.replace("{}", "{}, stderr=subprocess.DEVNULL")
        + "threading.Thread(target=process.stdout.read, daemon=True).start()"
    ),
    # CPython 3.12.0 and 3.12.1 start no thread, and therefore none of ours, once the main thread
    # has run off its end (gh-113964): here it waits until the other has started its process.
    "a thread has run it": Script(
        "has_run = threading.Event()\ndef main():\n    global process\n"
        + indent(_RUN + "has_run.set()", "    ")
        + "\nthreading.Thread(target=main).start()\nhas_run.wait()"
    ),
    "a cycle": Script(
        "class Holder: pass\nholder = Holder()\nholder.me = holder\n"
        + _RUN
        + "holder.process = process\ndel process, holder"
    ),
    "an attribute of a module": Script(_RUN + "sys.kept = process\nsys.modules['kept'] = process"),
    "an atexit handler polls": Script(_RUN + "atexit.register(lambda: process.running)"),
    "a relay": Script(_RUN + "process.stdout.fileno()"),
}

_ASYNC = """
import asyncio, atexit, contextlib, errno, threading, warnings
{prepare}
import {loops}
loop = None
def close():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of uvloop, about what it finds open
        loop.close()
def close_at_exit():  # or the loop says itself that it was left open
    if loop and not loop.is_closed():
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)  # left to a loop of uvloop's, in case it is run again
        close()
atexit.register(close_at_exit)  # to be called after what `process` registers
from process import *
async def main():
    global pid, process
    # In debug mode a loop says what takes long, which depends on the machine.
    asyncio.get_running_loop().slow_callback_duration = 1000
    process = await AsyncProcess({child}).run()
    pid = process.id
    if "SIG_IGN" in str(process.arguments):
        assert await process.stdout.read(1) == b"x"
    print(pid, flush=True)
    {left}
{end}
"""

#: The same for a process of asyncio: what becomes of the loop before the script ends.
_LOOP_ENDS = {
    "run": "{loops}.run(main())",
    "closed": "loop = {loops}.new_event_loop()\nloop.run_until_complete(main())\nclose()",
    "stopped": "loop = {loops}.new_event_loop()\nloop.run_until_complete(main())",
    "in a daemon thread": """
other = {loops}.new_event_loop()
threading.Thread(target=other.run_forever, daemon=True).start()
asyncio.run_coroutine_threadsafe(main(), other).result()
""",
}

_NO_PIDFD = """\
def refuse(*_):
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
os.pidfd_open = refuse
"""

#: What is left to the end: which child, what has been done with it, and what before all.
_LEFT = {
    **{child: (child, "pass", "") for child in _CHILDREN},
    "read from": ("yes", "await process.stdout.read(1)", ""),
    "closing": ("deaf", "process.stdin.close()", ""),
    "dropped": ("yes", "process = None", ""),
    "without pidfd": ("sleep", "pass", _NO_PIDFD),
}


SCRIPTS = {
    f"{child}-{end}": script._replace(source=_SYNC + script.source.replace("{}", command))
    for (child, command), (end, script) in product(_CHILDREN.items(), _ENDS.items())
}


def _async_scripts() -> Dict[str, Script]:
    scripts: Dict[str, Script] = {}
    for loops, end, left in product(["asyncio", "uvloop"], _LOOP_ENDS, _LEFT):
        if (end, left) == ("stopped", "dropped"):
            continue  # the loop has begun to close the pipes, and complains that it cannot go on
        child, done, prepare = _LEFT[left]
        source = _ASYNC.format(
            child=_CHILDREN[child], left=done, end=_LOOP_ENDS[end], loops=loops, prepare=prepare
        )
        scripts[f"{loops}-{end}-{left}"] = Script(source.replace("{loops}", loops))
    return scripts


ASYNC_SCRIPTS = _async_scripts()

#: The names of these scripts. Those for a loop that is missing are skipped.
_ASYNC_NAMES = [
    pytest.param(name, marks=getattr(loops, "marks", ()), id=name)
    for loops in loop_parameters()
    for name in ASYNC_SCRIPTS
    if name.startswith(f"{loops}-" if isinstance(loops, str) else f"{loops.values[0]}-")
]


def _run(script: Script) -> Result:
    """Run a script with everything on that makes an interpreter talkative."""
    command = start_talkative("import os, sys\n" + script.source)
    began = time.monotonic()
    done = subprocess.run(
        command,
        capture_output=True,
        timeout=20 * PROMPT,
        check=False,
        env={**os.environ, "PYTHONASYNCIODEBUG": "1"},
    )
    duration = time.monotonic() - began
    pids = [int(line) for line in done.stdout.split()]
    assert pids, done.stderr
    return Result(done.returncode, done.stderr, duration, [pid for pid in pids if is_alive(pid)])


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> Dict[str, Result]:
    """The results of all scripts that are asked for: a few run at a time, as most of them wait."""
    names: List[str] = [
        item.callspec.params["name"]  # type: ignore[misc]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module is request.module
        if item.get_closest_marker("skip") is None
    ]
    scripts = {**SCRIPTS, **ASYNC_SCRIPTS}
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(names, pool.map(lambda name: _run(scripts[name]), names)))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_ends(results: Dict[str, Result], name: str) -> None:
    """It says nothing, ends soon, with its own exit code, and no child outlives it."""
    _check(SCRIPTS[name], results[name])


@pytest.mark.parametrize("name", _ASYNC_NAMES)
def test_an_async_script_ends(results: Dict[str, Result], name: str) -> None:
    """The same for a process that no loop looks after any more."""
    _check(ASYNC_SCRIPTS[name], results[name])


def _check(script: Script, result: Result) -> None:
    complaints = result.stderr.splitlines()
    assert complaints[-1:] == ([script.complaint] if script.complaint else []), result.stderr
    assert len(complaints) <= 4  # a traceback of one frame
    assert result.exit_code == script.exit_code
    assert result.survivors == []
    assert result.duration < 6 * PROMPT  # its child would live for 1000 s
