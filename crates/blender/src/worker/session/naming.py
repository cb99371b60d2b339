"""What the files of a session's frames are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bpy

from worker.session import checks
from worker.session.state import Session, look

FRAME = "frames/frame_"
"""What the path of a frame's picture begins with; its number and an extension follow."""

NAMERS: list[Callable[[Session, str], dict[str, str]]] = []
"""Whoever adds files to a frame tells their paths by one of these, each under a key."""


@look
def frame_files(session: Session, number: str) -> dict[str, Any]:
    """Paths of what a frame is rendered to, as the session is set now. `number` is how the frame
    is called: `000012`."""
    number = checks.text("number", number)
    files: dict[str, Any] = {"file_path": f"{FRAME}{number}{ending(session.scene)}"}
    for name_more in NAMERS:
        files.update(name_more(session, number))
    return files


def ending(scene: bpy.types.Scene) -> str:
    """What Blender puts behind the name. Frames of a movie are rendered as PNG."""
    render = scene.render
    # In stereo every view may have a file: that of the first one stands for all.
    split = render.use_multiview and render.image_settings.views_format == "INDIVIDUAL"
    suffix = next((view.file_suffix for view in render.views if view.use), "") if split else ""
    if not render.use_file_extension:
        return suffix
    return suffix + (".png" if render.is_movie_format else render.file_extension)
