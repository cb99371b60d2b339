"""The beginning of a session: every module with operations, and what the file itself has."""

from __future__ import annotations

from worker.session import (  # noqa: F401 - imported for the operations that they have
    camera,
    curves,
    engine,
    extensions,
    naming,
    output,
    placing,
    timeline,
    truths,
)
from worker.session.state import Session, look, operation


def begin(path: str) -> Session:
    """On the file that is open."""
    muted = {curves.key(owner, curve) for owner, curve in curves.every_curve() if curve.mute}
    return Session(path, muted=muted)


@operation
def reset(_session: Session) -> None:
    """The file as it was saved; extensions stay. The worker has opened it anew already."""


@look
def ping(_session: Session) -> None:
    """Nothing, and back."""
