"""The public surface: names, signatures, defaults, messages, texts, and the documented examples."""

import asyncio
import copy
import gc
import importlib
import inspect
import io
import math
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Sequence, Union

import pytest

import process as library
from process import (
    DEVNULL,
    PIPE,
    STDOUT,
    AbstractProcess,
    AsyncProcess,
    Process,
    ProcessAlreadyRunError,
    ProcessError,
    ProcessInvalidStreamError,
    ProcessNotRunError,
    ProcessProtocol,
    ProcessTimeoutError,
)
from tests.support import CAT, Kit, needs_program, python

VARIANTS = [Process, AsyncProcess]

_SIGNAL = getattr(signal, "SIGUSR1", signal.SIGTERM)
_KILLED = getattr(signal, "SIGKILL", signal.SIGTERM)

_NAMES: Dict[str, Sequence[str]] = {
    "process": [
        *("Process", "AsyncProcess", "AbstractProcess", "ProcessProtocol"),
        *("PIPE", "STDOUT", "DEVNULL", "File", "StrOrPath", "StreamReader", "StreamWriter"),
        *("ProcessError", "ProcessNotRunError", "ProcessAlreadyRunError"),
        *("ProcessInvalidStreamError", "ProcessTimeoutError", "__version__"),
    ],
    "process.process": ["Process"],
    "process.types": ["StreamReader", "StreamWriter"],
    "process.constants": ["DEFAULT_BUFFER_SIZE"],
    "process.utils": ["is_windows"],
    "process.asyncio": ["Process", "DEFAULT_BUFFER_SIZE", "StreamReader", "StreamWriter"],
    "process.asyncio.process": ["Process"],
    "process.asyncio.types": ["StreamReader", "StreamWriter"],
    "process.asyncio.constants": ["DEFAULT_BUFFER_SIZE"],
    "process.core": [
        *("AbstractProcess", "ProcessProtocol", "PIPE", "STDOUT", "DEVNULL"),
        *("ProcessError", "ProcessNotRunError", "ProcessAlreadyRunError"),
        *("ProcessInvalidStreamError", "ProcessTimeoutError", "File", "StrOrPath"),
    ],
    "process.core.process": ["AbstractProcess"],
    "process.core.protocol": ["ProcessProtocol"],
    "process.core.types": ["StrOrPath", "File", "Returns"],
    "process.core.errors": [
        *("ProcessError", "ProcessNotRunError", "ProcessAlreadyRunError"),
        *("ProcessInvalidStreamError", "ProcessTimeoutError"),
    ],
    "process.core.constants": ["PIPE", "STDOUT", "DEVNULL"],
}


@pytest.mark.parametrize("module", _NAMES)
def test_names(module: str) -> None:
    """Every documented name is where it is documented to be, and is exported."""
    imported = importlib.import_module(module)
    for name in _NAMES[module]:
        assert hasattr(imported, name)
        assert name in imported.__all__
        assert name in dir(imported)


def test_what_the_names_mean() -> None:
    """Values, identities and bases."""
    import process.asyncio
    import process.asyncio.constants
    import process.asyncio.types
    import process.constants
    import process.core
    import process.types
    import process.utils

    assert (PIPE, STDOUT, DEVNULL) == (subprocess.PIPE, subprocess.STDOUT, subprocess.DEVNULL)
    assert process.constants.DEFAULT_BUFFER_SIZE == io.DEFAULT_BUFFER_SIZE
    assert process.asyncio.DEFAULT_BUFFER_SIZE == 2**16
    assert process.asyncio.constants.DEFAULT_BUFFER_SIZE == 2**16
    assert process.asyncio.Process is AsyncProcess
    assert process.asyncio.types.StreamReader is asyncio.StreamReader
    assert process.asyncio.types.StreamWriter is asyncio.StreamWriter
    assert process.types.StreamReader == Union[io.FileIO, io.BufferedReader]
    assert library.StreamWriter is process.types.StreamWriter
    assert library.utils.is_windows() is (os.name == "nt")
    for variant in VARIANTS:
        assert variant.__name__ == "Process"
        assert issubclass(variant, AbstractProcess)
        assert ProcessProtocol in variant.__mro__
    for error in (
        ProcessNotRunError,
        ProcessAlreadyRunError,
        ProcessInvalidStreamError,
        ProcessTimeoutError,
    ):
        assert error.__bases__ == (ProcessError,)
    assert ProcessError.__bases__ == (Exception,)
    assert re.match(r"\d+\.\d+\.\d+", library.__version__)


def test_unknown_names_are_attribute_errors() -> None:
    """The lazy import does not swallow mistakes."""
    with pytest.raises(AttributeError, match=r"'process'.*'Nonsense'"):
        library.Nonsense  # noqa: B018


@pytest.mark.parametrize("kind", [*VARIANTS, AbstractProcess, ProcessProtocol])
def test_constructor_signature(kind: Any) -> None:
    """Names, order and defaults of the parameters, which can be given by position or by name."""
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    expected = [
        ("arguments", inspect.Parameter.empty),
        ("stdin", None),
        ("stdout", PIPE),
        ("stderr", PIPE),
        ("buffer_size", None),
    ]
    if kind is ProcessProtocol:  # overloads only, whose implementation has no say
        return
    assert [(parameter.name, parameter.default) for parameter in parameters] == expected
    assert {parameter.kind for parameter in parameters} == {inspect.Parameter.POSITIONAL_OR_KEYWORD}


_METHODS = {
    "run": [],
    "output": [("join", True)],
    "error": [("join", True)],
    "join": [("timeout", None)],
    "signal": [("signal", inspect.Parameter.empty)],
    "terminate": [],
    "kill": [],
    "close": [],
}
_COROUTINES = {"run", "output", "error", "join", "close"}
_PROPERTIES = {
    *("arguments", "process", "id", "running", "exit_code", "stdin", "stdout", "stderr"),
}


@pytest.mark.parametrize("variant", VARIANTS, ids=["sync", "asyncio"])
def test_methods_and_properties(variant: Any) -> None:
    """Names, parameters and defaults, and what is a coroutine; nothing else is public."""
    for name, expected in _METHODS.items():
        method = getattr(variant, name)
        parameters = list(inspect.signature(method).parameters.values())[1:]
        assert [(parameter.name, parameter.default) for parameter in parameters] == expected
        is_async = variant is AsyncProcess and name in _COROUTINES
        assert inspect.iscoroutinefunction(method) is is_async
    for name in _PROPERTIES:
        assert isinstance(inspect.getattr_static(variant, name), property)
    public = {name for name in dir(variant) if not name.startswith("_")}
    assert public == {*_METHODS, *_PROPERTIES}


@pytest.mark.parametrize("variant", VARIANTS, ids=["sync", "asyncio"])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("echo 'Hello World!' x\\ y", ["echo", "Hello World!", "x y"]),
        (Path("/bin/a program"), [str(Path("/bin/a program"))]),
        (["echo", Path("/x y"), "a b"], ["echo", str(Path("/x y")), "a b"]),
        (("echo",), ["echo"]),
        ("", []),
    ],
)
def test_arguments(variant: Any, given: Any, expected: List[str]) -> None:
    """A string is split, a path is one argument, a sequence is taken as it is."""
    process = variant(given)
    assert process.arguments == expected
    process.arguments.append("x")
    assert process.arguments == expected
    assert repr(process) == f"Process(arguments={expected!r})"


@needs_program("echo")
def test_no_shell_is_involved() -> None:
    """Metacharacters are characters."""
    with Process("echo $HOME ; echo `x` > y | z *") as process:
        assert process.output() == b"$HOME ; echo `x` > y | z *\n"


@pytest.mark.parametrize("variant", VARIANTS, ids=["sync", "asyncio"])
def test_wrong_arguments(variant: Any) -> None:
    """What cannot be right is refused at once."""
    with pytest.raises(TypeError):
        variant([1, 2])
    with pytest.raises(TypeError):
        variant(None)
    with pytest.raises(ValueError, match="quot"):
        variant("echo 'open")


def test_the_abstract_class_wants_a_buffer_size() -> None:
    """Only the variants know what `None` means."""

    class Concrete(Process):
        __init__ = AbstractProcess.__init__

    with pytest.raises(ValueError, match="buffer_size"):
        Concrete(python(""))
    with pytest.raises(TypeError):
        AbstractProcess(python(""), buffer_size=1)  # type: ignore[abstract]


@pytest.mark.parametrize(
    "options",
    [
        {"stdin": "text"},
        {"stdin": bytearray(b"x")},
        {"stdin": memoryview(b"x")},
        {"stdin": io.BytesIO(b"x")},
        {"stdout": b"x"},
        {"stdout": object()},
        {"stderr": io.StringIO()},
        {"buffer_size": 1.5},
        {"buffer_size": "1"},
    ],
    ids=lambda options: "-".join([f"{name}-{type(options[name]).__name__}" for name in options]),
)
async def test_wrong_streams_and_sizes(kit: Kit, options: Any) -> None:
    """The constructor looks at `arguments` alone; `run` reports the rest, with the cause."""
    process = kit.Process([sys.executable, "-c", ""], **options)
    with pytest.raises(ProcessError, match=r"^Failed to run process: ") as caught:
        await kit.get(process.run())
    cause = caught.value.__cause__
    assert isinstance(cause, (TypeError, AttributeError, io.UnsupportedOperation))
    assert str(caught.value) == f"Failed to run process: {cause!r}"
    with pytest.raises(ProcessNotRunError):
        process.id  # noqa: B018


async def test_a_negative_buffer_size_is_the_default(kit: Kit) -> None:
    """As with `Popen`."""
    async with kit.opened(python("put(1, get_all())"), PIPE, buffer_size=-5) as process:
        if not kit.is_async:
            assert isinstance(process.stdin, io.BufferedWriter)
            assert isinstance(process.stdout, io.BufferedReader)
        await kit.send(process.stdin, b"a line\n")
        await kit.close(process.stdin)
        assert await kit.read_line(process.stdout) == b"a line\n"


async def test_the_attribute_of_the_reference_package(kit: Kit) -> None:
    """`_process` is the underlying process, and `None` before it has been run."""
    process = kit.Process([sys.executable, "-c", ""])
    assert process._process is None
    await kit.get(process.run())
    assert process._process is process.process
    await kit.get(process.close())
    assert process._process is process.process


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
async def test_a_process_is_not_copied(kit: Kit, duplicate: Any) -> None:
    """A copy would share the child, and end it when it is dropped."""
    process = kit.Process(python("put(1, get(1))"), PIPE)
    with pytest.raises(TypeError, match="cannot copy or pickle 'Process' object"):
        duplicate(process)
    await kit.get(process.run())
    with pytest.raises(TypeError, match="cannot copy or pickle 'Process' object"):
        duplicate(process)
    gc.collect()
    await kit.send(process.stdin, b"x")
    assert await kit.get(process.output()) == b"x"
    assert process.exit_code == 0
    await kit.get(process.close())


async def test_a_timeout_that_is_not_a_number(kit: Kit) -> None:
    """It never elapses, as with `Popen.wait` (before Python 3.15, which refuses it)."""
    async with kit.opened(python("put(1, get(1))"), PIPE) as process:
        close = process.stdin.close
        if kit.is_async:
            close = partial(asyncio.get_running_loop().call_soon_threadsafe, close)
        timer = threading.Timer(0.1, close)
        timer.start()
        await kit.get(process.join(math.nan))
        assert process.exit_code == 0
        timer.join()


async def test_not_run(kit: Kit) -> None:
    """Everything but `arguments` and `repr` wants a process that has been run."""
    process = kit.Process(python(""))
    for name in _PROPERTIES - {"arguments"}:
        with pytest.raises(ProcessNotRunError, match=r"^Process has not been run$"):
            getattr(process, name)
    for name in set(_METHODS) - {"run"}:
        arguments = [signal.SIGTERM] if name == "signal" else []

        async def call(name: str = name, arguments: Any = arguments) -> None:
            await kit.get(getattr(process, name)(*arguments))

        with pytest.raises(ProcessNotRunError, match=r"^Process has not been run$"):
            await call()


async def test_already_run(kit: Kit) -> None:
    """A process runs once: not again while it runs, after its end, or by `with`."""
    process = await kit.start(CAT, stdin=PIPE)
    for _ in range(2):
        with pytest.raises(ProcessAlreadyRunError, match=r"^Process has already been run$"):
            await kit.get(process.run())
        enter = process.__aenter__ if kit.is_async else process.__enter__
        with pytest.raises(ProcessAlreadyRunError):
            await kit.get(enter())
        await kit.get(process.close())


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
@pytest.mark.parametrize("given", [None, DEVNULL])
async def test_invalid_stream(kit: Kit, name: str, given: Any) -> None:
    """A stream that is no pipe cannot be had, nor can its output."""
    message = f"^Process was not created with `{name}=PIPE`$"
    async with kit.opened(python(""), **{"stdin": PIPE, name: given}) as process:
        with pytest.raises(ProcessInvalidStreamError, match=message):
            getattr(process, name)
        if name != "stdin":
            with pytest.raises(ProcessInvalidStreamError, match=message):
                await kit.get(process.output() if name == "stdout" else process.error())
    assert f"{name}=" not in repr(process)


async def test_stderr_as_stdout_is_no_stream(kit: Kit) -> None:
    """With `stderr=STDOUT` there is one stream."""
    async with kit.opened(python(""), stderr=STDOUT) as process:
        with pytest.raises(ProcessInvalidStreamError):
            process.stderr  # noqa: B018


async def test_timeout(kit: Kit) -> None:
    """The text has the timeout as it was given."""
    async with kit.opened(CAT, stdin=PIPE) as process:
        for timeout in (0, 0.01):
            text = f"^Process did not complete within {timeout} seconds$"
            with pytest.raises(ProcessTimeoutError, match=text):
                await kit.get(process.join(timeout))


async def test_repr(kit: Kit) -> None:
    """`repr` says what is known."""
    process = kit.Process(CAT, PIPE, PIPE, None)
    assert repr(process) == f"Process(arguments={CAT!r})"
    await kit.get(process.run())
    text = repr(process)
    beginning = f"Process(arguments={CAT!r}, id={process.id}, running=True, exit_code=None, stdin="
    assert text.startswith(beginning)
    assert ", stdout=" in text
    assert "stderr=" not in text
    assert text.endswith(")")
    await kit.get(process.close())
    assert "running=False, exit_code=" in repr(process)


async def test_life_of_a_process(kit: Kit) -> None:
    """`id`, `running`, `exit_code` and `process` from the start to after the end."""
    process = kit.Process(python("put(1, get_all()); sys.exit(7)"), stdin=PIPE)
    assert await kit.get(process.run()) is process
    kind = asyncio.subprocess.Process if kit.is_async else subprocess.Popen
    assert isinstance(process.process, kind)
    assert process.id == process.process.pid > 0
    assert process.running is True
    assert process.exit_code is None
    await kit.close(process.stdin)
    await kit.get(process.join())
    assert process.running is False
    assert process.exit_code == 7
    assert process.process.returncode == 7
    await kit.get(process.close())
    assert (process.running, process.exit_code) == (False, 7)
    assert process.id == process.process.pid


@pytest.mark.parametrize(
    ("send", "code"),
    [
        (lambda process: process.signal(_SIGNAL), -_SIGNAL),
        (lambda process: process.terminate(), -signal.SIGTERM),
        (lambda process: process.kill(), -_KILLED),
    ],
    ids=["signal", "terminate", "kill"],
)
async def test_signals(kit: Kit, send: Any, code: int) -> None:
    """Signals are sent, and are no error after the end, joined or closed."""
    process = await kit.start(CAT, stdin=PIPE)
    send(process)
    await kit.get(process.join())
    # On Windows they all mean `TerminateProcess`.
    assert process.exit_code == (1 if sys.platform == "win32" else code)
    send(process)
    await kit.get(process.close())
    send(process)
    await kit.get(process.close())
    assert process.exit_code == (1 if sys.platform == "win32" else code)


@needs_program("yes")
async def test_an_exception_leaves_the_block_unchanged(kit: Kit) -> None:
    """Nothing is read, nothing is waited for, nothing is swallowed."""
    with pytest.raises(KeyError, match="mine"):
        async with kit.opened(["yes"], stdin=PIPE) as process:
            raise KeyError("mine")
    await kit.get(process.join())
    assert process.exit_code == -signal.SIGPIPE  # its stdout was closed
    await kit.get(process.close())
    assert await kit.get(process.output()) == b""


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there is no SIGUSR1")
async def test_an_exception_waits_for_nothing(kit: Kit) -> None:
    """A child that does not end by itself is left running."""
    script = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
put(1, b"x")
signal.sigwait([signal.SIGUSR1])
"""
    process = await kit.start(python(script), stdin=b"input")
    assert await kit.read(process.stdout, 1) == b"x"
    error = KeyError()
    leave = process.__aexit__ if kit.is_async else process.__exit__
    assert not await kit.get(leave(KeyError, error, None))
    assert process.running
    process.signal(signal.SIGUSR1)
    await kit.get(process.join())
    assert process.exit_code == 0
    await kit.get(process.close())


async def test_buffer_size_zero(kit: Kit) -> None:
    """`buffer_size=0` is accepted and works."""
    async with kit.opened(CAT, stdin=PIPE, buffer_size=0) as process:
        await kit.send(process.stdin, b"one\ntwo")
        assert await kit.read_line(process.stdout) == b"one\n"
        await kit.close(process.stdin)
        assert await kit.read(process.stdout, 2) == b"tw"
        assert await kit.get(process.output()) == b"o"


async def test_parameters_by_position_and_by_name(kit: Kit) -> None:
    """Both ways lead to the same."""
    async with kit.opened(CAT, b"x", PIPE, PIPE, 100) as process:
        assert await kit.get(process.output(True)) == b"x"
    options = {"stdin": b"x", "stdout": PIPE, "stderr": PIPE, "buffer_size": 100}
    async with kit.opened(arguments=CAT, **options) as process:
        assert await kit.get(process.output(join=True)) == b"x"
        await kit.get(process.join(timeout=1000))


async def test_closing_again_is_harmless(kit: Kit) -> None:
    """`close` and `with`, in any number."""
    process = await kit.start(CAT, stdin=b"x")
    await kit.get(process.join())
    for _ in range(3):
        await kit.get(process.close())
        assert await kit.get(process.output()) == b"x"
        assert await kit.get(process.error()) == b""
    async with kit.opened(CAT, stdin=b"y") as process:
        await kit.get(process.join())
        await kit.get(process.close())
    assert await kit.get(process.output()) == b"y"


@needs_program("echo")
def test_example_hello() -> None:
    """The first example."""
    with Process("echo 'Hello World!'") as process:
        assert process.output() == b"Hello World!\n"


@needs_program("echo")
def test_example_partial_read() -> None:
    """The second example."""
    with Process("echo something") as process:
        assert process.stdout.read(4) == b"some"
    assert process.output() == b"thing\n"


def test_example_stdin() -> None:
    """The third example."""
    with Process(CAT, stdin=PIPE) as process:
        process.stdin.write(b"Hello")
    assert process.output() == b"Hello"


async def test_example_asyncio(loops: Kit) -> None:
    """The fourth example."""
    assert loops.is_async
    async with AsyncProcess(CAT, stdin=b"Hello") as process:
        assert await process.output() == b"Hello"
