"""One call: looked up, checked, done, and answered whatever comes of it."""

from __future__ import annotations

import difflib
import inspect
import traceback
from typing import Any

from worker.link import Link, clip
from worker.session import values
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
        result = perform(session, order["op"], values.decode(order["args"]))
        answer = {"id": number, "value": values.encode(result)}
        if not link.try_send("returned", answer, ANSWER_MAX):
            raise ValueError(
                f"the result is larger than {ANSWER_MAX >> 20} MiB: return less, or in parts"
            )
    except Exception as error:
        trace = traceback.format_exc()[-TRACEBACK_MAX:]
        link.send(
            "raised",
            id=number,
            kind=type(error).__name__,
            message=clip(str(error)),
            traceback=trace.encode("utf-8", "replace").decode("utf-8"),
        )


def perform(session: Session, name: str, args: dict[str, Any]) -> Any:
    known = {**OPERATIONS, **session.extensions}
    function = known.get(name)
    if function is None:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f": did you mean `{close[0]}`?" if close else f"; there are {', '.join(sorted(known))}"
        raise AttributeError(f"there is no operation `{name}`{hint}")
    positional = args.pop("$args", [])
    signature = inspect.signature(function)
    try:
        signature.bind(session, *positional, **args)
    except TypeError as error:
        taken = ", ".join(list(signature.parameters)[1:]) or "nothing"
        raise TypeError(f"`{name}` is called wrongly: {error}; it takes {taken}") from None
    return function(session, *positional, **args)
