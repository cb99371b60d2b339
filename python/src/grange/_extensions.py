"""Operations of people's own: the source that is sent, and the name that it goes by."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any, cast

Extension = str | PathLike[str] | ModuleType | Callable[..., Any]
"""A Python file, a module, or a function."""


@dataclass(frozen=True)
class Source:
    """What `extend` takes."""

    name: str
    text: str


def read(extensions: Iterable[Extension]) -> list[Source]:
    """The sources of extensions. Raises `FileNotFoundError`, and `ValueError` or `TypeError` for
    what cannot be sent, with what would have been right.
    """
    return [read_one(one) for one in extensions]


def read_one(extension: Extension) -> Source:
    """The source of one."""
    if isinstance(extension, (str, PathLike)):
        path = Path(cast("str | PathLike[str]", extension))
        if not path.is_file():
            raise FileNotFoundError(
                f"there is no extension `{path}`: give the path of a Python file"
            )
        return named(path.stem, path.read_text("utf-8"))
    if isinstance(extension, ModuleType):
        return named(extension.__name__.rpartition(".")[2], text_of(extension))
    if inspect.isfunction(extension):
        return read_function(extension)
    raise TypeError(
        f"an extension is a Python file, a module or a function, not {type(extension).__name__}"
    )


def read_function(function: Callable[..., Any]) -> Source:
    """A function by itself: nothing around it goes with it."""
    name = function.__name__
    if name == "<lambda>":
        raise ValueError("a lambda has no name to be called by: make it a function with `def`")
    around = function.__code__.co_freevars
    if around:
        raise ValueError(
            f"`{name}` uses `{around[0]}` of the function around it, which does not travel: "
            "make it an argument"
        )
    return named(name, textwrap.dedent(text_of(function)))


def text_of(what: Any) -> str:
    """Its source, where Python still knows it."""
    try:
        return inspect.getsource(what)
    except (OSError, TypeError):
        raise ValueError(
            f"the source of {what!r} cannot be found: put it into a file and give the file's path"
        ) from None


def named(name: str, text: str) -> Source:
    """A source whose name can be one."""
    if not name.isidentifier():
        raise ValueError(
            f"an extension cannot be called `{name}`: use letters, digits and underscores"
        )
    return Source(name, text)
