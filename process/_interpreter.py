"""What the library asks of the interpreter, found out in one place."""

import _thread
import importlib
import os
import subprocess
import sys
import threading
import weakref
from collections import deque
from functools import cache
from itertools import chain
from types import CodeType, FunctionType, MethodType, SimpleNamespace
from typing import Any, Callable, Dict, List, Tuple, Type

from process._descriptor import Descriptor


def interrupted_after_returns() -> bool:
    """Whether a signal handler may run between a `return` and the caller's next instruction.

    It may until CPython 3.10, which looks for signals after each call, and so, too, where a Python
    function has returned. From 3.11 on such a call is none for the interpreter's loop.
    """
    return not _looks_after_calls_only() or sys.version_info < (3, 11)


def atomic_between_calls() -> bool:
    """Whether nothing else runs between two calls of one thread's Python code.

    CPython looks for signals, and lets other threads run, only after calls, on the way back in a
    loop and where a function is entered. It has been so since 3.10 (bpo-42693); before, that may
    happen after almost any instruction. Without a global interpreter lock other threads run at any
    time. Where this holds, a `for` statement over an iterator written in C takes an
    item and returns it without a point at which a signal handler could make it disappear.
    """
    has_gil: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
    return _looks_after_calls_only() and has_gil()


def enters_blocks_at_once() -> bool:
    """Whether no signal handler runs between a call of `__enter__`, written in C, and the block.

    CPython 3.14 looks for signals there (gh-148874), and 3.9 almost everywhere.
    """
    return _looks_after_calls_only() and sys.version_info[:2] != (3, 14)


def _looks_after_calls_only() -> bool:
    return sys.implementation.name == "cpython" and sys.version_info >= (3, 10)


def raised_by_signal_handler(error: BaseException) -> bool:
    """Whether a signal handler has raised `error`, on top of the call that it came out of.

    A handler is the only function that is given, as an argument, the very frame below its own.
    """
    traceback = error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        values: List[Any] = list(frame.f_locals.values())
        tuples: List[Tuple[Any, ...]] = [value for value in values if type(value) is tuple]
        if frame.f_back is not None and id(frame.f_back) in map(id, chain(values, *tuples)):
            return True
        traceback = traceback.tb_next
    return False


def popen_class() -> "Type[subprocess.Popen[bytes]]":
    """`subprocess.Popen`, or a class derived from it that a program has put in its place.

    If what it has put there is something else, a test double for example, it is the class of a
    second copy of the module.
    """
    found: Any = subprocess.Popen
    bases: Tuple[type, ...] = found.__mro__ if isinstance(found, type) else ()
    if any(base.__module__ == "subprocess" for base in bases):
        return subprocess.Popen
    import importlib.util  # rarely needed

    spec: Any = importlib.util.find_spec("subprocess")
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    original: Type[subprocess.Popen[bytes]] = module.Popen
    return original


#: A flag of code objects (`inspect.CO_NESTED`; `inspect` takes long to import).
_NESTED = 0x10


class _TrackedOs:
    """`os` as the method of `Popen` that forks needs it, proof against handlers that raise.

    The pipes that it makes are closed when nothing refers to it any more.
    """

    def __init__(self) -> None:
        self._ends: Dict[int, Descriptor] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def pipe(self) -> Tuple[int, int]:
        ends = Descriptor.pipe()
        read, write = numbers = ends[0].fileno(), ends[1].fileno()
        self._ends[read], self._ends[write] = ends
        return numbers

    def close(self, number: int) -> None:
        end = self._ends.pop(number, None)
        if end is None:
            os.close(number)
        else:
            end.close()

    def get_exec_path(self, env: Any = None) -> List[str]:
        """Where to look for programs.

        The original ignores warnings meanwhile, and on CPython 3.14 a handler that raises there may
        leave the lock of `warnings` locked: then other threads cannot start a process any more.
        """
        path: str = os.environ.get("PATH", os.defpath)
        return os.get_exec_path(env) if env is not None else path.split(os.pathsep)


@cache
def _as_nested(code: CodeType) -> CodeType:
    """The code of a function that is freed with its last reference.

    Without a global interpreter lock only nested functions are; CPython 3.13 never frees others.
    """
    return code.replace(co_flags=code.co_flags | _NESTED)


def losing_nothing(execute_child: Any) -> Any:
    """The method `_execute_child` of a `Popen`, which knows of all that it has made at any time.

    The original assigns what `fork_exec` returns. A signal that arrives during that call, which is
    most of a start, is handled before the assignment; if the handler raises, nobody knows of the
    child. Here a copy of the method has a `fork_exec` that stores the id in the same call into C.
    Without `posix_spawn`, which has the same gap and no advantage over `vfork`.

    The original also makes a pipe, by which the child reports that it cannot execute the program.
    The copy has an `os` that owns it until it is closed.
    """
    function = getattr(execute_child, "__func__", None)
    if not isinstance(function, FunctionType):
        return execute_child
    names: Dict[str, Any] = dict(function.__globals__)
    # Until Python 3.10 the module is asked for it.
    module = names.get("_posixsubprocess")
    fork_exec: Any = names.get("_fork_exec") or getattr(module, "fork_exec", None)
    if fork_exec is None:  # Windows
        return execute_child
    # Weak: without a global interpreter lock a function lives until the garbage collector runs.
    reference = weakref.ref(execute_child.__self__)

    def fork_exec_and_store(*arguments: Any) -> Any:
        popen: Any = reference()
        pids = map(fork_exec, *zip(arguments))
        deque(map(setattr, (popen,), ("pid",), pids), maxlen=0)
        return popen.pid

    names["_fork_exec"] = fork_exec_and_store
    names["_posixsubprocess"] = SimpleNamespace(fork_exec=fork_exec_and_store)
    names["_USE_POSIX_SPAWN"] = False
    names["os"] = _TrackedOs()
    code = _as_nested(function.__code__)
    copy = FunctionType(code, names, function.__name__, function.__defaults__, function.__closure__)
    return MethodType(copy, execute_child.__self__)


def run_uninterrupted(function: Callable[[], None]) -> None:
    """Call `function` where no signal handler can interrupt it.

    Handlers run in the main thread only, so another thread calls it on behalf of the main thread.
    If the main thread is interrupted while it waits, the call goes on.

    Raises:
        RuntimeError: a thread cannot be started.
    """
    # Not by `current_thread`, which keeps a record of a thread that `threading` did not start.
    if threading.get_ident() != threading.main_thread().ident:
        function()
        return
    failure: List[BaseException] = []
    done = _thread.allocate_lock()
    done.acquire()

    def run() -> None:  # pragma: no cover - tracers do not get to see this thread
        try:
            function()
        except BaseException as error:
            failure.append(error)
        finally:
            done.release()

    if sys.is_finalizing():  # which CPython says by itself from 3.12 on: no other thread runs
        raise RuntimeError("can't create new thread at interpreter shutdown")
    _thread.start_new_thread(run, ())
    done.acquire()  # ends because `run` does
    if failure:
        raise failure[0]


#: Modules that have been imported to the end, by name.
_imported: Dict[str, Any] = {}


def import_uninterrupted(name: str) -> Any:
    """Import a module of the library where no signal handler can interrupt that, if possible.

    What a handler raises in the middle of an import may be lost, since a callback written in Python
    is called where the lock of a module is released; and on CPython 3.15 it may leave such a lock
    locked, so that the next import hangs.
    """

    def run() -> None:
        _imported[name] = importlib.import_module(name)

    if name not in _imported:
        try:
            # The thread waits for no import that its caller is in the middle of: it imports modules
            # of the library and of the standard library, and these do not run processes.
            run_uninterrupted(run)
        except RuntimeError:  # a thread cannot be started
            run()
    return _imported[name]
