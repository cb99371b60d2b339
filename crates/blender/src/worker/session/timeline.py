"""The scene's frames and what moves in them."""

from __future__ import annotations

from array import array
from typing import Any, NamedTuple

import bpy

from worker.opening import listed
from worker.session import checks, curves
from worker.session.state import Session, look, operation

PARTS = (("co", 2), ("handle_left", 2), ("handle_right", 2), ("period", 1))
"""Of a keyframe, what is measured in frames: pairs of frame and value, and a length."""

STEADY = {"CYCLES", "LIMITS"}
"""Modifiers of curves that go along with the keyframes, or do not depend on the frame."""


class Moved(NamedTuple):
    """A curve, with what its keyframes are to become."""

    name: str
    curve: bpy.types.FCurve
    parts: dict[str, array[float]]


@look
def original_fps(session: Session) -> float:
    """Frames of the scene per second, as the file is played: `fps / fps_base`."""
    return session.scene.render.fps / session.scene.render.fps_base


@look
def animation_range(session: Session) -> list[int]:
    """First frame, the one after the last, and the step: what `range` takes."""
    scene = session.scene
    return [scene.frame_start, scene.frame_end + 1, scene.frame_step]


@look
def current_frame(session: Session) -> int:
    return session.scene.frame_current


@look
def iter_fcurves(_session: Session) -> list[dict[str, Any]]:
    """All curves of all actions, each with its keyframes as pairs of frame and value, and the names
    of what its action moves. Drivers are none."""
    owners = curves.owners()
    found = []
    for owner, curve in curves.every_curve():
        numbers = curves.read(curve, "co", 2)
        found.append(
            {
                "action": owner.action.name_full,
                "slot": owner.slot,
                "owners": owners.get(owner.action.name_full, []),
                "data_path": curve.data_path,
                "index": curve.array_index,
                "muted": curve.mute,
                "keyframes": list(zip(numbers[::2], numbers[1::2], strict=True)),
            }
        )
    return found


@operation
def set_current_frame(session: Session, frame: int) -> None:
    """Moves the scene to a frame. What is animated goes where its animation has it."""
    session.scene.frame_set(checks.frame("frame", frame))


@operation
def set_animation_range(
    session: Session, start: int | None = None, stop: int | None = None, step: int | None = None
) -> None:
    """Frames from `start` on, up to `stop` without it, every `step`th. What is not given stays."""
    scene = session.scene
    first, last = scene.frame_start, scene.frame_end
    if start is not None:
        first = checks.whole("start", start, 0, checks.FRAME_MAX)
    if stop is not None:
        last = checks.whole("stop", stop, 1, checks.FRAME_MAX + 1) - 1
    if step is not None:
        step = checks.whole("step", step, 1, checks.FRAME_MAX)
    if first > last:
        raise ValueError(
            f"the range is empty: it starts at {first} and stops before {last + 1}; the frame "
            "`stop` is no longer part of it"
        )
    set_range(scene, first, last)
    if step is not None:
        scene.frame_step = step


@operation
def move_keyframes(session: Session, scale: float = 1.0, shift: float = 0.0) -> None:
    """Moves all keyframes of all actions from frame `f` to `f * scale + shift`, with their handles,
    and the scene's markers. The scene's range is scaled as one that ends before its last frame's
    end: 0 to 99, scaled by 5, becomes 0 to 499. The shutter of motion blur stays: it is a part of a
    frame, however much time that is.

    Physics, caches, sequences of images, drivers and strips of the NLA stay. A `ValueError` if
    something would leave Blender's frames; then nothing was changed.
    """
    scale, shift = checks.real("scale", scale), checks.real("shift", shift)
    if scale <= 0:
        raise ValueError(f"scale is more than 0, not {scale:g}: time runs one way")
    scene = session.scene
    first = round(scene.frame_start * scale + shift)
    last = max(round((scene.frame_end + 1) * scale + shift) - 1, first)
    if first < 0 or last > checks.FRAME_MAX:
        raise ValueError(
            f"the scene's range would become {first} to {last}, and frames to be rendered are 0 "
            f"to {checks.FRAME_MAX}: choose another scale or shift"
        )
    for moved in move_all(scale, shift):
        for part, numbers in moved.parts.items():
            moved.curve.keyframe_points.foreach_set(part, numbers)
        moved.curve.update()
    for marker in scene.timeline_markers:
        marker.frame = round(marker.frame * scale + shift)
    set_range(scene, first, last)
    warn_of_rest(session)
    evaluate_anew(scene)


@operation
def use_animations(session: Session, enable: bool) -> None:
    """Turns all animation curves off, or on again, in strips of the NLA too. Those that the file
    has off stay off. What they move stays as it is in the current frame. Drivers, physics and
    sequences of images go on."""
    off = not checks.flag("enable", enable)
    for owner, curve in curves.every_curve():
        if curve.mute != off and curves.key(owner, curve) not in session.muted:
            curve.mute = off
    evaluate_anew(session.scene)


@operation
def use_motion_blur(session: Session, enable: bool) -> None:
    """Turns motion blur on or off, for Cycles and EEVEE."""
    checks.flag("enable", enable)
    for owner in blurring(session.scene):
        owner.use_motion_blur = enable


def set_range(scene: bpy.types.Scene, first: int, last: int) -> None:
    """Each of the two pushes the other along."""
    scene.frame_end = last
    scene.frame_start = first
    scene.frame_end = last


def move_all(scale: float, shift: float) -> list[Moved]:
    """All curves as they are to become. Refuses before anything is changed."""
    everything = []
    for owner, curve in curves.every_curve():
        parts = {part: curves.read(curve, part, width) for part, width in PARTS}
        for part, width in PARTS:
            numbers = parts[part]
            if width == 1:
                parts[part] = array("f", [one * scale for one in numbers])
            else:
                numbers[::2] = array("f", [one * scale + shift for one in numbers[::2]])
        name = f"{owner.action.name_full}: {curve.data_path}[{curve.array_index}]"
        for frame in parts["co"][::2]:
            if abs(frame) > checks.FRAME_MAX:
                raise ValueError(
                    f"a keyframe of `{name}` would come to frame {frame:.0f}, and Blender's frames "
                    f"are -{checks.FRAME_MAX} to {checks.FRAME_MAX}: choose another scale or shift"
                )
        everything.append(Moved(name, curve, parts))
    return everything


def warn_of_rest(session: Session) -> None:
    """What is animated, and does not move with the keyframes."""
    modified = {
        f"{owner.action.name_full}: {curve.data_path}"
        for owner, curve in curves.every_curve()
        if any(one.type not in STEADY and not one.mute for one in curve.modifiers)
    }
    if modified:
        session.warn(
            f"curves have modifiers that count frames, which were not moved: "
            f"{listed(sorted(modified))}"
        )
    sampled = {
        f"{owner.action.name_full}: {curve.data_path}"
        for owner, curve in curves.every_curve()
        if len(curve.sampled_points)
    }
    if sampled:
        session.warn(f"curves are baked and have no keyframes to move: {listed(sorted(sampled))}")
    stripped = {
        block.name
        for block, data in curves.animated()
        if data.use_nla and any(len(track.strips) and not track.mute for track in data.nla_tracks)
    }
    if stripped:
        session.warn(
            "strips of the NLA were not moved, only the keyframes in their actions: "
            f"{listed(sorted(stripped))}"
        )


def blurring(scene: bpy.types.Scene) -> list[Any]:
    """Who has settings of motion blur: before 4.2 EEVEE has its own."""
    has_own = hasattr(scene.eevee, "motion_blur_shutter")
    return [scene.render, scene.eevee] if has_own else [scene.render]


def evaluate_anew(scene: bpy.types.Scene) -> None:
    scene.frame_set(scene.frame_current, subframe=scene.frame_subframe)
