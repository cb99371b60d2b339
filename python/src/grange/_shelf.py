"""Sessions of a pool that no call holds just now, kept for the next call that wants their scene.

A session that is taken from here has its instance and an opened file already, which saves seconds.
Calls that wait for an instance wait here: each of them has asked the farm for one, and gets that,
or one that another call leaves behind, whichever comes first. So nobody is overtaken.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from ._session import Session


@dataclass(eq=False)
class Waiter:
    """A call that waits for an instance."""

    session: Session
    """What it has asked for."""
    given: Session | None = None
    """What it got instead."""


class Shelf:
    """Any number of sessions. All methods are for any thread."""

    def __init__(self) -> None:
        self._sessions: list[Session] = []
        """With an instance that idles."""
        self._asked: list[Session] = []
        """Without one yet, whose calls got another one."""
        self._waiters: list[Waiter] = []
        self._opening: set[Session] = set()
        self._failed: dict[Session, BaseException] = {}
        self._closed = False
        self._changed = threading.Condition()

    def put(self, session: Session) -> None:
        """Keeps a session with an instance, or gives it to the call that has waited the longest for
        its scene; ends it if the shelf is closed.
        """
        with self._changed:
            kept = self._keep(session)
        if not kept:
            session.end()

    def take(self, scene: tuple[str, str]) -> Session | None:
        """A session of the scene, which may have no instance yet. Where there is none, the one that
        has been here the longest ends: its instance is needed for what the caller makes instead.
        """
        with self._changed:
            self._sessions = [one for one in self._sessions if not one.lost]
            self._asked = [one for one in self._asked if not one.lost]
            for kept in (self._sessions, self._asked):
                for at, session in enumerate(kept):
                    if session.scene == scene:
                        return kept.pop(at)
            kept = self._sessions or self._asked
            oldest = kept.pop(0) if kept else None
        if oldest:
            oldest.end()
        return None

    def wait(self, session: Session, told: Callable[[str], None]) -> Session:
        """Blocks until there is an instance for whoever holds a session without one: this session,
        or another one of the scene, and then this one stays here. `told` gets a sentence when there
        is news of why it has none yet. Raises what `Session.wait` raises.
        """
        waiter = Waiter(session)
        with self._changed:
            if session not in self._opening and not session.ready:
                self._opening.add(session)
                threading.Thread(
                    target=self._open, args=(session, told), name="grange-open", daemon=True
                ).start()
            self._waiters.append(waiter)
            try:
                self._changed.wait_for(lambda: waiter.given or session not in self._opening)
            finally:
                self._waiters.remove(waiter)
            error = self._failed.pop(session, None)
        if waiter.given:
            return waiter.given
        if error:
            raise error
        return session

    def shrink(self, count: int) -> None:
        """Ends all idle ones but so many, those first that have been idle the longest."""
        with self._changed:
            more = max(len(self._sessions) - count, 0)
            ending, self._sessions = self._sessions[:more], self._sessions[more:]
        for session in ending:
            session.end()

    def close(self) -> None:
        """Ends them all, and those that are still to come."""
        with self._changed:
            self._closed = True
            # Those without an instance first, lest they get one of those that are ended here.
            sessions = self._asked + self._sessions
            self._asked, self._sessions = [], []
        for session in sessions:
            session.end()

    def _keep(self, session: Session) -> bool:
        """Whether a session with an instance is of use to somebody, now or later."""
        if self._closed or session.lost:
            return False
        for waiter in self._waiters:
            asked = waiter.session
            if waiter.given or asked not in self._opening or asked.scene != session.scene:
                continue
            waiter.given = session
            self._asked.append(asked)
            self._changed.notify_all()
            return True
        self._sessions.append(session)
        return True

    def _open(self, session: Session, told: Callable[[str], None]) -> None:
        """Waits for the instance that was asked for, whoever gets it."""
        error: BaseException | None = None
        try:
            session.wait(told)
        except BaseException as failed:
            error = failed
        kept = True
        with self._changed:
            self._opening.discard(session)
            if session in self._asked:
                self._asked.remove(session)
                kept = error is not None or self._keep(session)
            elif error is not None and any(one.session is session for one in self._waiters):
                self._failed[session] = error
            self._changed.notify_all()
        if not kept:
            session.end()
