# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames as people write them: `12`, `1-24`, `1-100x4`, `3, 5-10`."""

from __future__ import annotations

import re

FRAMES_MAX = 100_000
"""Of one shot: more is a slip of the finger."""

_PART = re.compile(r"(-?\d+)(?:\s*-\s*(-?\d+))?(?:\s*x\s*(\d+))?")


def parse(text: str, current: int) -> list[int]:
    """The frames in the order in which they are written, each once; `current` for an empty text.

    Raises `ValueError` with a sentence for people.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        return [current]
    frames: dict[int, None] = {}
    for part in parts:
        frames.update(dict.fromkeys(_range(part)))
        if len(frames) > FRAMES_MAX:
            raise ValueError(f"`{text}` is more than {FRAMES_MAX} frames: make several shots of it")
    return list(frames)


def _range(part: str) -> range:
    match = _PART.fullmatch(part)
    if not match:
        raise ValueError(f"`{part}` is no frame: write 12, 1-24 or 1-100x4, or leave it empty")
    first = int(match[1])
    last = int(match[2]) if match[2] else first
    step = int(match[3] or 1)
    if last < first:
        raise ValueError(f"`{part}` ends before it begins: write {last}-{first}")
    if step < 1:
        raise ValueError(f"`{part}` never moves on: the step after x is at least 1")
    if (last - first) // step >= FRAMES_MAX:
        raise ValueError(f"`{part}` is more than {FRAMES_MAX} frames: make several shots of it")
    return range(first, last + 1, step)
