# SPDX-License-Identifier: GPL-3.0-or-later
"""From a list of shots to the pictures that are rendered one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from . import frames, names

LOOKS = ("FRONT", "BACK", "LEFT", "RIGHT", "UP", "DOWN")
"""Directions of a skybox, as seen from what it is rendered from."""

PICTURES_MAX = 100_000


@dataclass(frozen=True)
class Shot:
    """A shot of the list; what it leaves open is already taken from its scene."""

    name: str
    scene: str
    camera: str | None
    """The shot's own, or what it looks around from. None: whatever the scene has at that frame."""
    seen_by: str
    """The name of the camera that renders it, for people and names; empty if there is none."""
    frames: str
    frame_now: int
    """Of the scene, for a shot that names none."""
    folder: str
    """Absolute; where names begin."""
    extension: str
    """Of the scene's pictures, with its dot."""
    output: str = "{shot}"
    look: str | None = None
    view_layer: str | None = None
    resolution: tuple[int, int] | None = None
    samples: int | None = None
    weight: float = 1.0
    """How long a picture of it takes, against those of the other shots."""


@dataclass(frozen=True)
class Picture:
    """One frame of one shot, and the file that it becomes."""

    shot: Shot
    number: int
    """Of the shot among those that are rendered, from 1."""
    frame: int
    path: str
    """Absolute, with its extension."""


def plan(shots: Iterable[Shot]) -> list[Picture]:
    """The pictures in the order in which they are rendered.

    Raises `ValueError` with a sentence that names the shot, before anything is rendered.
    """
    found: list[Picture] = []
    owners: dict[str, Picture] = {}
    for number, shot in enumerate(shots, 1):
        for picture in of_shot(shot, number):
            other = owners.setdefault(os.path.normcase(picture.path), picture)
            if other is not picture:
                raise ValueError(_twice(other, picture))
            found.append(picture)
        if len(found) > PICTURES_MAX:
            raise ValueError(f"these are more than {PICTURES_MAX} pictures: render fewer at once")
    if not found:
        raise ValueError("there is nothing to render: add a shot, or tick one in the list")
    return found


def of_shot(shot: Shot, number: int = 1) -> list[Picture]:
    """The pictures of one shot. Raises `ValueError` as `plan` does."""
    try:
        of = frames.parse(shot.frames, shot.frame_now)
        pattern = names.numbered(shot.output) if len(of) > 1 else shot.output
        return [Picture(shot, number, frame, path(shot, pattern, frame)) for frame in of]
    except ValueError as error:
        raise ValueError(f"shot `{shot.name}`: {error}") from None


@dataclass(frozen=True)
class OnFarm:
    """A list of shots as one job of a farm."""

    folder: str
    """Absolute: where its files go."""
    shots: list[dict[str, object]]
    """Keyword arguments of the farm's own `Shot`, but for what looks around."""


def for_farm(shots: Iterable[Shot]) -> OnFarm:
    """The pictures of these shots as one job. Raises `ValueError` as `plan` does."""
    shots = list(shots)
    planned = plan(shots)
    folder = os.path.commonpath([os.path.dirname(picture.path) for picture in planned])
    used: set[str] = set()
    return OnFarm(folder, [_for_farm(shot, folder, used) for shot in shots])


def _for_farm(shot: Shot, folder: str, used: set[str]) -> dict[str, object]:
    name, count = shot.name, 1
    while name in used:
        count += 1
        name = f"{shot.name} ({count})"
    used.add(name)
    try:
        of = frames.parse(shot.frames, shot.frame_now)
        pattern = names.numbered(shot.output) if len(of) > 1 else shot.output
        values = names.Values(shot.name, shot.seen_by, shot.scene, shot.frame_now)
        output = path_of(shot, names.for_farm(pattern, values))
    except ValueError as error:
        raise ValueError(f"shot `{shot.name}`: {error}") from None
    return {
        "name": name,
        "scene": shot.scene,
        "camera": shot.camera,
        "frames": of,
        "view_layer": shot.view_layer,
        "resolution": shot.resolution,
        "samples": shot.samples,
        "output": os.path.relpath(output, folder).replace(os.sep, "/"),
    }


def path(shot: Shot, pattern: str, frame: int) -> str:
    """The file of one frame."""
    values = names.Values(shot.name, shot.seen_by, shot.scene, frame)
    return path_of(shot, names.expand(pattern, values)) + shot.extension


def path_of(shot: Shot, made: str) -> str:
    """The file of that name without its extension."""
    if made.lower().endswith(shot.extension.lower()):
        made = made[: -len(shot.extension)]
    return os.path.normpath(os.path.join(shot.folder, made))


def _twice(one: Picture, other: Picture) -> str:
    file = os.path.basename(one.path)
    if one.number == other.number:
        return f"frames {one.frame} and {other.frame} of shot `{one.shot.name}` both write {file}"
    if one.shot.name == other.shot.name:
        return f"two shots are called `{one.shot.name}` and both write {file}: rename one of them"
    return (
        f"shots `{one.shot.name}` and `{other.shot.name}` both write {file}: "
        "give one of them another output name"
    )
