"""One call: looked up, checked, done, and answered whatever comes of it."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import os
import traceback
from collections.abc import Iterator
from typing import Any

from worker.link import Link, clip
from worker.opening import bounded, listed
from worker.session import values
from worker.session.extensions import takes_session
from worker.session.state import OPERATIONS, Session

ANSWER_MAX = 3 << 20
"""Bytes of one answer as JSON."""

TRACEBACK_MAX = 8_000
"""Characters of a traceback; the end of a longer one."""


def call(link: Link, session: Session | None, order: dict[str, Any]) -> None:
    """Does what the order says and answers it."""
    number = order["id"]
    try:
        if session is None:
            raise RuntimeError("no file is open")
        session.scratch = order["scratch"]
        session.warnings.clear()
        if order.get("device"):
            session.given = (order["device"], order.get("device_pci"))
        with scratch_of(session, order["op"]):
            result = perform(session, order["op"], values.decode(order["args"]))
        answer = {
            "id": number,
            "value": values.encode(result),
            "warnings": bounded(session.warnings),
        }
        if not link.try_send("returned", answer, ANSWER_MAX):
            raise ValueError(
                f"the result is larger than {ANSWER_MAX >> 20} MiB: return less, or in parts"
            )
    except (Exception, SystemExit) as error:
        # An extension may try to leave; the worker stays.
        trace = traceback.format_exc()[-TRACEBACK_MAX:]
        link.send(
            "raised",
            id=number,
            kind=type(error).__name__,
            message=clip(str(error)),
            traceback=trace.encode("utf-8", "replace").decode("utf-8"),
        )


@contextlib.contextmanager
def scratch_of(session: Session, name: str) -> Iterator[None]:
    """Lets an extension write into the call's directory; what is empty afterwards goes."""
    if name not in session.extensions:
        yield
        return
    os.makedirs(session.scratch, exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(session.scratch)


def perform(session: Session, name: str, args: dict[str, Any]) -> Any:
    """Finds the operation and does it, with the session if it takes one."""
    function = OPERATIONS.get(name) or session.extensions.get(name)
    if function is None:
        known = [*OPERATIONS, *session.extensions]
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {listed(close)}?" if close else f"there are {listed(sorted(known))}"
        raise AttributeError(f"there is no operation `{name}`: {hint}")
    args = dict(args)
    positional = args.pop("$args", [])
    if name in OPERATIONS or takes_session(function):
        positional = [session, *positional]
    signature = inspect.signature(function)
    try:
        signature.bind(*positional, **args)
    except TypeError as error:
        raise TypeError(
            f"`{name}` is called wrongly: {error}; call it as {name}({taken(name, signature)})"
        ) from None
    return function(*positional, **args)


def taken(name: str, signature: inspect.Signature) -> str:
    """The arguments, as a person would write them."""
    parameters = list(signature.parameters.values())
    if parameters and (name in OPERATIONS or parameters[0].name == "session"):
        parameters = parameters[1:]
    bare = [one.replace(annotation=inspect.Parameter.empty) for one in parameters]
    return str(inspect.Signature(bare))[1:-1]
