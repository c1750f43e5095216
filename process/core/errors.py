"""The exceptions of the library."""

__all__ = [
    "ProcessAlreadyRunError",
    "ProcessError",
    "ProcessInvalidStreamError",
    "ProcessNotRunError",
    "ProcessTimeoutError",
]


class ProcessError(Exception):
    """The process could not be started; the base of the other errors.

    The cause (no such program, no permission, no descriptor or thread left, ...) is chained as
    `__cause__`.
    """


class ProcessNotRunError(ProcessError):
    """The process has not been run yet."""

    def __init__(self, message: str = "Process has not been run") -> None:
        super().__init__(message)


class ProcessAlreadyRunError(ProcessError):
    """The process has been run before; a `Process` runs once."""

    def __init__(self, message: str = "Process has already been run") -> None:
        super().__init__(message)


class ProcessInvalidStreamError(ProcessError):
    """The stream asked for was not created with `PIPE`."""


class ProcessTimeoutError(ProcessError):
    """The process did not end in time. It runs on, and nothing is lost."""
