"""From what a caller asks of a scene to a job as the API wants it, checked against the scene.

Pure: it neither reads files nor talks to a farm.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

Frames = str | int | range | Iterable[int]
"""`"1-24"`, `"1-100x4"`, `"3, 5-10"`, one number, a range, or numbers in any order."""
Size = str | tuple[int, int]
"""Width and height in pixels: `(1920, 1080)` or `"1920x1080"`."""
Json = dict[str, Any]

SIDE_MAX = 65_536
"""Pixels of a picture's side."""
FRAMES_MAX = 10_000_000

_RANGE = re.compile(r"(-?\d+)(?:\s*-\s*(-?\d+))?(?:\s*x\s*(\d+))?")
_SIZE = re.compile(r"\s*(\d+)\s*[x×]\s*(\d+)\s*")


@dataclass(frozen=True)
class Shot:
    """One picture, or one sequence of pictures. What is `None` is the job's, then the file's."""

    name: str
    """What people call it; unique in its job."""
    camera: str | None = None
    frames: Frames | None = None
    """The frame that the file was saved at, unless told."""
    scene: str | None = None
    view_layer: str | None = None
    """Render this view layer alone."""
    resolution: Size | None = None
    samples: int | None = None
    """Per pixel."""
    output: str | None = None
    """The pictures' name without extension; the shot's name, unless told."""


@dataclass(frozen=True)
class Wanted:
    """What is asked for all pictures of a job. What is `None` stays as the file has it."""

    frames: Frames | None = None
    scene: str | None = None
    camera: str | None = None
    view_layer: str | None = None
    resolution: Size | None = None
    samples: int | None = None
    output: str | None = None


def kind(
    summary: Mapping[str, Any],
    blend: str,
    needs: Mapping[str, Any],
    wanted: Wanted,
    shots: Sequence[Shot] | None,
    *,
    settings: Mapping[str, Any],
    chunk: int,
    preview: bool,
) -> Json:
    """The job's kind as the API has it. Raises `ValueError` for what the scene does not have."""
    if chunk < 1:
        raise ValueError(f"`chunk` is {chunk}: an instance renders at least 1 frame in a row")
    needed = dict(needs)
    if settings.get("allow_no_denoiser"):
        needed["denoiser"] = False
    common: Json = {"blend": blend, "needs": needed, "settings": dict(settings), "chunk": chunk}
    if shots is None:
        return {"animation": common | _animation(summary, blend, wanted, preview=preview)}
    if not shots:
        raise ValueError("the job has no shots: name at least one")
    if preview:
        raise ValueError("a preview video is made of an animation: leave `preview` or `shots` out")
    return {"shots": common | {"shots": [_shot(summary, wanted, shot) for shot in shots]}}


def ranges(frames: Frames) -> list[Json]:
    """Frames as the API has them. Raises `ValueError` if these are none."""
    if isinstance(frames, str):
        found = [_range(part.strip()) for part in frames.split(",") if part.strip()]
    elif isinstance(frames, int):
        found = [(frames, frames, 1)]
    elif isinstance(frames, range):
        ordered = frames if frames.step > 0 else frames[::-1]
        found = [(ordered[0], ordered[-1], ordered.step)] if ordered else []
    else:
        found = _runs(sorted(set(frames)))
    if not found:
        raise ValueError("there are no frames to render: name some, such as 47, 1-24 or 1-100x4")
    if sum((last - first) // step + 1 for first, last, step in found) > FRAMES_MAX:
        raise ValueError(f"these are more than {FRAMES_MAX} frames: submit several jobs")
    return [{"first": first, "last": last, "step": step} for first, last, step in found]


def resolution(size: Size) -> Json:
    """Width and height as the API has them. Raises `ValueError` if these are none."""
    if isinstance(size, str):
        match = _SIZE.fullmatch(size)
        if not match:
            raise ValueError(f"`{size}` is not a resolution: write it as 1920x1080")
        width, height = int(match[1]), int(match[2])
    else:
        width, height = size
    if not (1 <= width <= SIDE_MAX and 1 <= height <= SIDE_MAX):
        raise ValueError(
            f"{width}x{height} is not a resolution: each side has 1 to {SIDE_MAX} pixels"
        )
    return {"width": width, "height": height}


def tags(wanted: Iterable[str]) -> list[str]:
    """Tags as the API has them. Raises `ValueError` for one text, whose letters would be tags."""
    if isinstance(wanted, str):
        raise ValueError(f"`tags` is a list: write [{wanted!r}] for one tag")
    return sorted(set(wanted))


def _animation(summary: Mapping[str, Any], blend: str, wanted: Wanted, *, preview: bool) -> Json:
    scene = _scene(summary, wanted.scene)
    _check(scene, wanted.camera, wanted.view_layer)
    frames = wanted.frames
    if frames is None:
        first, last = int(scene["frame_start"]), int(scene["frame_end"])
        frames = range(first, last + 1, int(scene.get("frame_step", 1)))
    shot: Json = {
        "scene": wanted.scene,
        "view_layer": wanted.view_layer,
        "camera": wanted.camera,
        "frames": ranges(frames),
        "resolution": None if wanted.resolution is None else resolution(wanted.resolution),
        "samples": wanted.samples,
        "output": wanted.output or scene.get("output") or "####",
    }
    made: Json = {"shot": shot}
    if preview:
        fps = scene.get("frame_rate") or {"fps": 24, "base": 1.0}
        made["preview"] = {"fps": fps, "output": f"{PurePosixPath(blend).stem}-preview.mp4"}
    return made


def _shot(summary: Mapping[str, Any], wanted: Wanted, shot: Shot) -> Json:
    name = shot.scene or wanted.scene
    scene = _scene(summary, name)
    camera = shot.camera or wanted.camera
    view_layer = shot.view_layer or wanted.view_layer
    frames = wanted.frames if shot.frames is None else shot.frames
    size = wanted.resolution if shot.resolution is None else shot.resolution
    try:
        _check(scene, camera, view_layer)
        return {
            "name": shot.name,
            "scene": name,
            "view_layer": view_layer,
            "camera": camera,
            "frames": ranges(int(scene.get("frame_current", 1)) if frames is None else frames),
            "resolution": None if size is None else resolution(size),
            "samples": wanted.samples if shot.samples is None else shot.samples,
            "output": shot.output or _file_name(shot.name),
        }
    except ValueError as error:
        raise ValueError(f"shot `{shot.name}`: {error}") from None


def _scene(summary: Mapping[str, Any], name: str | None) -> Mapping[str, Any]:
    scenes: list[Mapping[str, Any]] = list(summary["scenes"])
    wanted = summary.get("active") if name is None else name
    for scene in scenes:
        if scene["name"] == wanted:
            return scene
    if name is None and scenes:
        return scenes[0]
    raise _unknown("file", "scene", name or "", [str(scene["name"]) for scene in scenes])


def _check(scene: Mapping[str, Any], camera: str | None, view_layer: str | None) -> None:
    cameras = [str(name) for name in scene.get("cameras", ())]
    if camera is not None and camera not in cameras:
        raise _unknown("scene", "camera", camera, cameras)
    layers: list[Any] = list(scene.get("view_layers", ()))
    names = [layer if isinstance(layer, str) else str(layer["name"]) for layer in layers]
    if view_layer is not None and view_layer not in names:
        raise _unknown("scene", "view layer", view_layer, names)


def _unknown(where: str, what: str, name: str, there_are: list[str]) -> ValueError:
    listed = f"there are: {', '.join(there_are)}" if there_are else "there is none"
    return ValueError(f"the {where} has no {what} `{name}` ({listed})")


def _range(part: str) -> tuple[int, int, int]:
    match = _RANGE.fullmatch(part)
    if not match:
        raise ValueError(f"`{part}` names no frames: write them as 47, 1-24 or 1-100x4")
    first = int(match[1])
    last = first if match[2] is None else int(match[2])
    step = 1 if match[3] is None else int(match[3])
    if step < 1 or last < first:
        raise ValueError(f"`{part}` names no frames: the last comes after the first, by steps")
    return first, last, step


def _runs(frames: list[int]) -> list[tuple[int, int, int]]:
    runs: list[tuple[int, int, int]] = []
    for frame in frames:
        if runs and runs[-1][1] == frame - 1:
            runs[-1] = (runs[-1][0], frame, 1)
        else:
            runs.append((frame, frame, 1))
    return runs


def _file_name(name: str) -> str:
    """A shot's name as a file's: what names of files cannot have becomes `_`."""
    clean = "".join("_" if char in "/\\:#" or ord(char) < 32 else char for char in name.strip())
    return "_" if clean in {".", ".."} else clean
