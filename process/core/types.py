"""Types that both variants share."""

import os  # noqa: TC003 - `typing.get_type_hints` evaluates `StrOrPath`
from typing import IO, Any, Coroutine, TypeVar, Union

T = TypeVar("T")

#: A program or an argument.
StrOrPath = Union[str, "os.PathLike[str]"]

#: A file descriptor, or a file object that has one.
File = Union[int, IO[bytes]]

#: What a member returns, which is `T`, or, in the asyncio variant, a coroutine that gives a `T`.
Returns = Union[T, Coroutine[Any, Any, T]]

__all__ = ["File", "Returns", "StrOrPath"]
