# SPDX-License-Identifier: GPL-3.0-or-later
"""The pictures of a job as strips of the video sequencer, in a scene of its own: strips in the
scene that is rendered would be what it renders.
"""

from __future__ import annotations

import os
from collections import defaultdict
from typing import Any

import bpy

from .desk import Followed


def load(job: Followed, like: bpy.types.Scene) -> bpy.types.Scene:
    """A new scene with the frame rate and size of another, and a strip for each folder and name.

    Raises `ValueError` if there are no pictures.
    """
    groups = sequences(job.pictures)
    if not groups:
        raise ValueError("no picture of this job is here yet: wait for the first one")
    made = bpy.data.scenes.new(f"{job.name} (farm)")
    for name in ("resolution_x", "resolution_y", "resolution_percentage", "fps", "fps_base"):
        setattr(made.render, name, getattr(like.render, name))
    editor = made.sequence_editor_create()
    # `sequences` until 4.4, where both were there.
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    for channel, (name, frames) in enumerate(sorted(groups.items()), 1):
        _add(strips, os.path.basename(name), frames, channel)
    numbers = job.pictures.values()
    made.frame_start, made.frame_end = min(numbers), max(numbers)
    made.frame_set(made.frame_start)
    return made


def sequences(found: dict[str, int]) -> dict[str, list[tuple[int, str]]]:
    """Frames and paths in order, by the name that they share without the frame."""
    groups: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for path, frame in found.items():
        stem, extension = os.path.splitext(path)
        stem = stem.rstrip("0123456789")
        groups[f"{stem}{extension}"].append((frame, path))
    return {name: sorted(frames) for name, frames in groups.items()}


def _add(strips: Any, name: str, frames: list[tuple[int, str]], channel: int) -> None:
    """A strip shows one picture a frame, so it begins anew after frames that are not there."""
    run: Any = None
    next_frame = 0
    for frame, path in frames:
        if run is not None and frame == next_frame:
            run.elements.append(os.path.basename(path))
            run.frame_final_duration += 1
        else:
            run = strips.new_image(name=name, filepath=path, channel=channel, frame_start=frame)
        next_frame = frame + 1
