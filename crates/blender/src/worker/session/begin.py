"""The beginning of a session: every module with operations, and what the file itself has."""

from __future__ import annotations

from worker.session.state import Session, look, operation


def begin(path: str) -> Session:
    """On the file that is open."""
    return Session(path)


@operation
def reset(_session: Session) -> None:
    """The file as it was saved. The worker has opened it anew already."""


@look
def ping(_session: Session) -> None:
    """Nothing, and back."""
