# SPDX-License-Identifier: GPL-3.0-or-later
"""What Blender shows of the farm: the panels anew, and the latest picture of a job, in its panel
and as an image in the Image Editor.

Blender reads the files itself, when it draws them, and no more often than `EVERY_S`.
"""

from __future__ import annotations

import time
from typing import Any

import bpy
import bpy.utils.previews

from .desk import Followed

EVERY_S = 1.0
JOB = "grange_job"
"""The property of an image that tells whose it is."""

_previews: Any = None
_shown: dict[int, str] = {}
"""Paths in `_previews`, by job."""
_refreshed_at = 0.0


def icon(job: Followed) -> int:
    """The number of the icon with its latest picture; 0 if there is none."""
    global _previews
    if job.last is None:
        return 0
    if _previews is None:
        _previews = bpy.utils.previews.new()
    key = str(job.job)
    if key not in _previews:
        _previews.load(key, job.last, "IMAGE")
        _shown[job.job] = job.last
    return _previews[key].icon_id


def image(job: Followed) -> bpy.types.Image | None:
    """An image that goes on to show the job's latest picture, or None before there is one."""
    if job.last is None:
        return None
    made = _image_of(job.job)
    if made is None:
        made = bpy.data.images.load(job.last)
        made.name = f"{job.name} (farm)"
        made[JOB] = job.job
    _show(made, job.last)
    return made


def refresh(jobs: list[Followed]) -> None:
    """Lets what shows a job's latest picture show the one that came since."""
    global _refreshed_at
    now = time.monotonic()
    if now - _refreshed_at < EVERY_S:
        return
    _refreshed_at = now
    for job in jobs:
        if job.last is None:
            continue
        if _shown.get(job.job, job.last) != job.last:
            del _previews[str(job.job)]
            del _shown[job.job]
        made = _image_of(job.job)
        if made is not None:
            _show(made, job.last)


def redraw() -> None:
    """The panels, and no view, which may take long to draw."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            kind = SHOWN_IN.get(area.type)
            for region in area.regions if kind else ():
                if region.type == kind:
                    region.tag_redraw()


SHOWN_IN = {"PROPERTIES": "WINDOW", "VIEW_3D": "UI", "PREFERENCES": "WINDOW"}
"""Regions of editors."""


def clear() -> None:
    """Gives the pictures of the panel back; images are the user's."""
    global _previews
    if _previews is not None:
        bpy.utils.previews.remove(_previews)
    _previews = None
    _shown.clear()


def _image_of(job: int) -> bpy.types.Image | None:
    return next((one for one in bpy.data.images if one.get(JOB) == job), None)


def _show(made: bpy.types.Image, path: str) -> None:
    if bpy.path.abspath(made.filepath) == path:
        return
    try:
        made.filepath = path
    except AttributeError:
        # After an unlucky render, Blender lets no timer write for the rest of its session. What a
        # button does goes on to work.
        return
    made.reload()
