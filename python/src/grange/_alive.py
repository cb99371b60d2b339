"""Tells a farm every few seconds that a client's sessions are still wanted.

Owns one daemon thread, which there is only while there are sessions; the farm ends the sessions of
a client that it has not heard of for 30 s. It neither makes sessions nor ends them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from ._http import Api
from .errors import GrangeError

EVERY_S = 5.0
"""Between two signs of life."""
OnEnd = Callable[[], None]


class Alive:
    """The sessions of one client."""

    def __init__(self, api: Api, every_s: float = EVERY_S) -> None:
        self._api = api
        self._every_s = every_s
        self._reset()

    def hold(self, session: int, on_end: OnEnd | None = None) -> None:
        """Keeps a session from now on. `on_end` is called once if the farm has ended it."""
        self._after_fork()
        with self._lock:
            self._sessions[session] = on_end
            if self._thread is None:
                self._thread = threading.Thread(target=self._tell, name="grange-alive", daemon=True)
                self._thread.start()

    def let_go(self, session: int) -> None:
        """Keeps a session no more. One that is not kept is fine."""
        self._after_fork()
        with self._lock:
            self._sessions.pop(session, None)
            if not self._sessions:
                self._wake.set()

    def sessions(self) -> list[int]:
        """Those that are kept, the oldest first."""
        self._after_fork()
        with self._lock:
            return list(self._sessions)

    def _tell(self) -> None:
        wake = self._wake
        while True:
            wake.wait(self._every_s)
            with self._lock:
                wake.clear()
                sessions = list(self._sessions)
                if not sessions:
                    self._thread = None
                    return
            try:
                told: Any = self._api.post("/sessions/alive", {"sessions": sessions}, repeat=True)
            except GrangeError:
                # Whoever calls a session hears of it; here the next try is soon enough.
                continue
            self._ended([int(session) for session in told.get("ended", ())])

    def _ended(self, sessions: list[int]) -> None:
        with self._lock:
            gone = [self._sessions.pop(session, None) for session in sessions]
        for on_end in gone:
            if on_end is not None:
                on_end()

    def _after_fork(self) -> None:
        """In a child the sessions are still the parent's, and its thread is not there."""
        if self._pid != os.getpid():
            self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._sessions: dict[int, OnEnd | None] = {}
