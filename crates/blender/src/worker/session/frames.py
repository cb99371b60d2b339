"""A session's frames: rendered like any other, with what the session adds to them."""

from __future__ import annotations

from typing import Any

from worker.overrides import Overrides
from worker.session.state import Session


def before(session: Session, frame: int) -> None:
    """Moves the scene to the frame, and leaves it there, as the session's owner expects."""
    session.scene.frame_set(frame)


def after(session: Session, order: dict[str, Any], overrides: Overrides) -> dict[str, Any]:
    """Fields of the answer: what there is to tell of the frame."""
    _ = (session, order, overrides)
    return {"data": {}}
