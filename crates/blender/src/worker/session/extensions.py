"""Operations that the session's owner sends as Python.

Every public function that the source defines becomes one. A function whose first parameter is
called `session` gets the `Session`, with `session.scene`, `session.camera`, `session.scratch` and
`session.warn`; others are called with the call's arguments alone.
"""

from __future__ import annotations

import inspect
import linecache
import sys
import types
from collections.abc import Callable
from typing import Any

from worker.session import checks
from worker.session.state import OPERATIONS, Session, operation

PREFIX = "grange_extension."
"""What the names of their modules begin with, so that none takes another one's place."""

TAKEN = {"render"}
"""Operations of a session that are none of this worker's."""


@operation
def extend(session: Session, name: str, source: str) -> list[str]:
    """Adds the operations that the source defines, and returns their names. `name` is what
    tracebacks call it; sent again under the same name it takes the place of what was sent before.

    A `SyntaxError` or whatever running the source raises, and a `ValueError` for names that are
    taken; then nothing was added.
    """
    name, source = checks.text("name", name), checks.text("source", source)
    module = types.ModuleType(f"{PREFIX}{name}")
    functions = define(module, name, source)
    refuse_taken(session, module.__name__, functions)
    for old, function in list(session.extensions.items()):
        if comes_from(function, module):
            del session.extensions[old]
    session.extensions.update(functions)
    return sorted(functions)


def takes_session(function: Callable[..., Any]) -> bool:
    """Whether an extension's function wants the session."""
    return next(iter(inspect.signature(function).parameters), None) == "session"


def define(module: types.ModuleType, name: str, source: str) -> dict[str, Callable[..., Any]]:
    """Runs the source in the module; its own public functions."""
    code = compile(source, name, "exec", dont_inherit=True)
    module.__file__ = name
    # Dataclasses look their module up, and tracebacks the lines of the source.
    before = sys.modules.get(module.__name__)
    sys.modules[module.__name__] = module
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    try:
        exec(code, vars(module))
        functions = {
            one: value
            for one, value in vars(module).items()
            if not one.startswith("_") and inspect.isfunction(value) and comes_from(value, module)
        }
        if not functions:
            raise ValueError(
                f"`{name}` defines no function without a leading underscore: each of them would "
                "become an operation"
            )
    except BaseException:
        if before is None:
            del sys.modules[module.__name__]
        else:
            sys.modules[module.__name__] = before
        raise
    return functions


def comes_from(function: Callable[..., Any], module: types.ModuleType) -> bool:
    return function.__module__ == module.__name__


def refuse_taken(session: Session, module: str, functions: dict[str, Callable[..., Any]]) -> None:
    for one in functions:
        if one in OPERATIONS or one in TAKEN:
            raise ValueError(f"`{one}` is an operation already: call the function otherwise")
        other = session.extensions.get(one)
        if other is not None and other.__module__ != module:
            owner = other.__module__.removeprefix(PREFIX)
            raise ValueError(
                f"`{one}` is an operation of `{owner}` already: call the function otherwise"
            )
