"""One session: a lease of one instance for one scene, and the calls to it.

Owns the numbers of calls and what happens when a connection breaks in the middle of one: the same
call is sent again under its number, which joins it or gives its kept answer. Never knows what an
operation means.
"""

from __future__ import annotations

import ast
import builtins
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NoReturn, cast

from . import _values
from ._contract import Farm, hold, let_go
from ._scene import Scene
from .errors import GrangeError, InstanceLost, NotConnected, Refused, RemoteTraceback

BROKEN_MAX_S = 30.0
"""How long a call tries to reach the farm again; as long as the farm waits for a client."""
PAUSE_MIN_S = 0.1
PAUSE_MAX_S = 5.0

KINDS = {"NotPlain": TypeError}
"""Exceptions of the instance's own that are a kind of a builtin one."""


class Session:
    """A session of a farm, made by its constructor, which returns before there is an instance.

    Calls may come from several threads; the instance does them in order of arrival.
    """

    def __init__(self, farm: Farm, scene: Scene, **wishes: Any) -> None:
        """`wishes` (name, priority, settings, tags, idle_s) go as they are, but for `None`."""
        self.farm = farm
        self.scene = (scene.manifest, scene.blend)
        """What tells whether a scene is the same one: its files' hash and which of them it is."""
        self.ready = False
        """Whether it has an instance."""
        self.extended: list[str] | None = None
        """Names of the operations that were sent to it, which it keeps; `None` before that."""
        self._numbers = itertools.count(1)
        self._over = threading.Event()
        self._why = ""
        body = {"manifest": scene.manifest, "blend": scene.blend, "needs": scene.needs}
        body |= {key: value for key, value in wishes.items() if value is not None}
        self.farewell: Callable[[], object] = lambda: None
        """Called once by `end`, if there was an instance."""
        self.id: int = farm.api.post("/api/v1/sessions", body, repeat=True)["id"]
        hold(farm, self.id)

    @property
    def lost(self) -> bool:
        """Whether it is over, by its end or by an accident."""
        return self._over.is_set()

    def wait(self, told: Callable[[str], None]) -> None:
        """Blocks until it has an instance. `told` gets a sentence when there is news of why it has
        none yet. Raises `InstanceLost` if it ends meanwhile.
        """
        self.call("ping", {}, waiting=told)
        self.ready = True

    def call(
        self,
        operation: str,
        args: dict[str, Any],
        *,
        waiting: Callable[[str], None] | None = None,
        progress: Callable[[float], None] | None = None,
        output: Callable[[str, int], None] | None = None,
        warned: Callable[[str], None] | None = None,
    ) -> Any:
        """Does an operation and gives its value. `progress` gets the share that is done (0..1),
        `output` every file that comes of it: its name and its length in bytes, `warned` sentences
        for people.

        Raises what the operation raised, with the remote traceback as its cause, and
        `InstanceLost` if the session is over.
        """
        body = {"do": operation, "args": _values.encode(args)}
        told: set[str] = set()
        for message in self._messages({"call": next(self._numbers), **body}):
            what = message["is"]
            if what == "waiting" and waiting:
                waiting(message["detail"])
            elif what == "progress" and progress:
                progress(message["fraction"])
            elif what == "output" and output and message["name"] not in told:
                # A call that was joined again tells its outputs again.
                told.add(message["name"])
                output(message["name"], message["len"])
            elif what == "returned":
                if warned:
                    for warning in message["warnings"]:
                        warned(warning)
                return _values.decode(message["value"])
            elif what == "raised":
                raise_remote(message["kind"], message["message"], message["traceback"])
            elif what == "ended":
                self._lose(message["message"])
                raise InstanceLost(self._why)
        raise NotConnected("the farm ended an answer before its last line")

    def end(self) -> None:
        """Ends it; calls under way raise `InstanceLost`. One that is over stays so."""
        if not self._over.is_set():
            self._lose("the session was ended here")
            # A farm that cannot be told takes it back when it no longer hears of it.
            with suppress(GrangeError, OSError):
                self.farm.api.delete(f"/api/v1/sessions/{self.id}")
        if self.ready:
            farewell, self.farewell = self.farewell, lambda: None
            farewell()

    def _lose(self, why: str) -> None:
        if not self._over.is_set():
            self._why = why
            self._over.set()
        let_go(self.farm, self.id)

    def _messages(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Lines of a call, over as many connections as it takes."""
        pause, broken_at = PAUSE_MIN_S, None
        while True:
            if self._over.is_set():
                raise InstanceLost(self._why)
            trouble: Exception = NotConnected("the farm's answer broke off")
            try:
                path = f"/api/v1/sessions/{self.id}/calls"
                for line in self.farm.api.lines("POST", path, body):
                    pause, broken_at = PAUSE_MIN_S, None
                    if not line.strip():
                        continue
                    message = cast("dict[str, Any]", json.loads(line))
                    yield message
                    if message["is"] in ("returned", "raised", "ended"):
                        return
            except Refused as refused:
                if refused.status in (404, 410):
                    self._lose(refused.detail)
                    continue
                if refused.status != 503:
                    raise
                trouble = refused
            except (NotConnected, OSError, json.JSONDecodeError) as error:
                trouble = error
            broken_at = time.monotonic() if broken_at is None else broken_at
            if time.monotonic() - broken_at > BROKEN_MAX_S:
                raise NotConnected(
                    f"the farm was not heard of for {BROKEN_MAX_S:.0f} s in the middle of a call: "
                    f"{trouble}"
                ) from trouble
            self._over.wait(pause)
            pause = min(pause * 2, PAUSE_MAX_S)


def raise_remote(kind: str, message: str, trace: str) -> NoReturn:
    """Raises the builtin exception of that kind, or a `GrangeError` where there is none."""
    cause = RemoteTraceback(trace)
    found = KINDS.get(kind) or getattr(builtins, kind, None)
    error: Exception = GrangeError(f"{kind}: {message}" if kind != "GrangeError" else message)
    if isinstance(found, type) and issubclass(found, Exception):
        if issubclass(found, KeyError):
            # Its text is the key as it is written in code.
            with suppress(ValueError, SyntaxError):
                message = ast.literal_eval(message)
        # Those that end a loop would do so silently; some take more than a message.
        if not issubclass(found, (StopIteration, StopAsyncIteration)):
            with suppress(TypeError):
                error = found(message)
    raise error from cause
