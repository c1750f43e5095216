"""Rule 7: however a script ends, it ends at once, in silence, and its children with it."""

import subprocess
import time
from typing import Tuple

import pytest

from tests.support import PROMPT, is_alive, start_library

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

_READY = """
if "SIG_IGN" in str(process.arguments):
    assert process.stdout.read(1) == b"x"
print(process.id, flush=True)
"""

#: How the script ends, and its exit code.
_ENDS = {
    "falls off": ("process = Process({}).run()" + _READY, 0),
    "sys.exit": ("process = Process({}).run()" + _READY + "sys.exit(3)", 3),
    "sys.exit in a block": (
        "with Process({}) as process:\n" + _READY.replace("\n", "\n    ") + "\n    sys.exit(3)",
        3,
    ),
    "in a function": (
        "def main():\n    process = Process({}).run()"
        + _READY.replace("\n", "\n    ")
        + "\n    sys.exit(3)\nmain()",
        3,
    ),
    "a daemon thread waits": (
        "process = Process({}).run()"
        + _READY
        + "threading.Thread(target=process.join, daemon=True).start()",
        0,
    ),
    "a daemon thread reads": (
        "process = Process({}, stderr=subprocess.DEVNULL).run()"
        + _READY
        + "threading.Thread(target=process.stdout.read, daemon=True).start()",
        0,
    ),
    # CPython 3.12.0 and 3.12.1 start no thread, and therefore none of ours, once the main thread
    # has run off its end (gh-113964): here it waits until the other has started its process.
    "a thread has run it": (
        "has_run = threading.Event()\ndef main():\n    global process\n    "
        "process = Process({}).run()"
        + _READY.replace("\n", "\n    ")
        + "\n    has_run.set()\nthreading.Thread(target=main).start()\nhas_run.wait()",
        0,
    ),
    "a cycle": (
        "class Holder: pass\nholder = Holder()\nholder.me = holder\n"
        "process = holder.process = Process({}).run()" + _READY + "del process, holder",
        0,
    ),
    "an attribute of a module": (
        "process = sys.kept = Process({}).run()" + _READY + "sys.modules['kept'] = process",
        0,
    ),
    "an atexit handler polls": (
        "process = Process({}).run()"
        + _READY
        + "import atexit\natexit.register(lambda: process.running)",
        0,
    ),
    "a relay": ("process = Process({}).run()" + _READY + "process.stdout.fileno()", 0),
}


def _run(script: str) -> Tuple["subprocess.CompletedProcess[bytes]", float]:
    """Run a script with everything on that makes an interpreter talkative."""
    prelude = "import asyncio, os, subprocess, sys, threading\nfrom process import *\n"
    command = start_library(prelude + script)
    command[1:1] = ["-X", "dev"]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, timeout=10 * PROMPT, check=False)
    return done, time.monotonic() - began


@pytest.mark.parametrize("way", _ENDS)
@pytest.mark.parametrize("child", _CHILDREN)
def test_a_script_ends(child: str, way: str) -> None:
    """It says nothing, ends soon, with its own exit code, and no child outlives it."""
    script, code = _ENDS[way]
    done, duration = _run(script.replace("{}", _CHILDREN[child]))
    assert (done.stderr, done.returncode) == (b"", code)
    assert not is_alive(int(done.stdout))
    assert duration < 2 * PROMPT


@pytest.mark.parametrize("child", _CHILDREN)
def test_a_script_ends_with_an_exception(child: str) -> None:
    """Its traceback is the only thing it says."""
    done, duration = _run(f"process = Process({_CHILDREN[child]}).run(){_READY}raise KeyError(5)")
    assert done.returncode == 1
    assert done.stderr.count(b"\n") <= 4
    assert done.stderr.endswith(b"KeyError: 5\n")
    assert not is_alive(int(done.stdout))
    assert duration < 2 * PROMPT


_LOOPS = {
    "asyncio.run": "asyncio.run(main())",
    "a closed loop": """
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
loop.run_until_complete(loop.shutdown_asyncgens())
loop.close()
""",
    "a loop that is left open": """
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
loop.run_until_complete(main())
process = None
loop.run_until_complete(loop.shutdown_asyncgens())
loop.close()
""",
}


@pytest.mark.parametrize("child", ["sleep", "yes", "deaf"])
@pytest.mark.parametrize("keep", ["kept = process", "pass", "await process.stdout.read(1)"])
@pytest.mark.parametrize("way", _LOOPS)
def test_an_asyncio_script_ends(child: str, keep: str, way: str) -> None:
    """The same for a process that no loop looks after any more."""
    if child == "sleep" and "read" in keep:
        keep = "process.stdin"
        child = "deaf"
    if child == "deaf" and "read" in keep:
        pytest.skip("nothing to be read")
    script = f"""
async def main():
    global kept
    process = await AsyncProcess({_CHILDREN[child]}).run()
    print(process.id, flush=True)
    {keep}
{_LOOPS[way]}
"""
    done, duration = _run(script)
    assert (done.stderr, done.returncode) == (b"", 0)
    assert not is_alive(int(done.stdout))
    assert duration < 2 * PROMPT
