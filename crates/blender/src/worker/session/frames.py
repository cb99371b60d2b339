"""A session's frames: rendered like any other, with what the session adds to them."""

from __future__ import annotations

from typing import Any

from worker.overrides import Overrides
from worker.session import camera, truths
from worker.session.state import Session


def before(session: Session, order: dict[str, Any]) -> dict[str, Any]:
    """Moves the scene to the frame, and leaves it there, as the session's owner expects. The order
    with what the session has chosen of how to render."""
    truths.check(session)
    session.scene.frame_set(order["frame"])
    chosen = dict(order)
    if session.compute is not None:
        chosen["device"] = session.compute
    if session.persistent_data is not None:
        chosen["persistent_data"] = session.persistent_data
    return chosen


def after(session: Session, order: dict[str, Any], overrides: Overrides) -> dict[str, Any]:
    """Fields of the answer: what there is to tell of the frame."""
    _ = overrides
    made = truths.make(session, order)
    pose = camera.rows(camera.unscaled(session.camera.matrix_world))
    return {"data": {"transform_matrix": pose, **made}}
