"""Sessions that nobody uses just now, kept for the next call that wants their scene.

A session that is taken from here has its instance and an opened file already, which saves seconds.
"""

from __future__ import annotations

import threading

from ._session import Session


class Shelf:
    """Any number of idle sessions. All methods are for any thread."""

    def __init__(self) -> None:
        self._sessions: list[Session] = []
        self._closed = False
        self._lock = threading.Lock()

    def put(self, session: Session) -> None:
        """Keeps a session, or ends it if the shelf is closed."""
        with self._lock:
            if not self._closed and not session.lost:
                self._sessions.append(session)
                return
        session.end()

    def take(self, scene: tuple[str, str]) -> Session | None:
        """A session of the scene. Where there is none, the one that has been idle the longest ends:
        its instance is needed for what the caller makes instead.
        """
        with self._lock:
            self._sessions = [one for one in self._sessions if not one.lost]
            for at, session in enumerate(self._sessions):
                if session.scene == scene:
                    return self._sessions.pop(at)
            oldest = self._sessions.pop(0) if self._sessions else None
        if oldest:
            oldest.end()
        return None

    def shrink(self, count: int) -> None:
        """Ends all but so many, those first that have been idle the longest."""
        with self._lock:
            more = max(len(self._sessions) - count, 0)
            ending, self._sessions = self._sessions[:more], self._sessions[more:]
        for session in ending:
            session.end()

    def close(self) -> None:
        """Ends them all, and those that are still to come."""
        with self._lock:
            self._closed = True
            sessions, self._sessions = self._sessions, []
        for session in sessions:
            session.end()
