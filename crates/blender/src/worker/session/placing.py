"""Putting the camera somewhere. The poses are those of `camera`; places are in scene units."""

from __future__ import annotations

import math
from typing import Any

import bpy
from mathutils import Euler, Matrix, Quaternion, Vector

from worker.session import checks, curves
from worker.session.camera import unscaled
from worker.session.state import Session, operation

ANGLE_MAX = 1000.0
"""Radians of one rotation."""

EULER = ("XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX")


@operation
def unbind_camera(session: Session) -> None:
    """Takes away what moves the camera: constraints, animation and drivers of its place, its
    parent. It stays where it is in the current frame. Animation of its lens stays."""
    camera = session.camera
    bpy.context.view_layer.update()
    pose = camera.matrix_world.copy()
    try:
        camera.constraints.clear()
    except RuntimeError as error:
        raise RuntimeError(
            f"camera `{camera.name}` comes from a library and keeps its constraints ({error}): "
            "make it local in Blender and save the file"
        ) from None
    camera.animation_data_clear()
    camera.parent = None
    camera.matrix_world = pose
    bpy.context.view_layer.update()


@operation
def position_camera(
    session: Session,
    location: Any = None,
    rotation: Any = None,
    look_at: Any = None,
    in_order: bool = True,
) -> None:
    """Puts the camera at a place of the world, and turns it: by `rotation`, a 3x3 matrix, Euler
    angles XYZ in radians or a quaternion WXYZ, as its shape says, or so that it looks at a point
    with its y as far up as can be. What is not given stays.

    `in_order`: among equal rotations the one next to the present one is taken, so that keyframes
    one after the other turn smoothly. Without, angles are those between −π and π.
    """
    if look_at is not None and rotation is not None:
        raise ValueError("`look_at` and `rotation` both turn the camera: give one of them")
    checks.flag("in_order", in_order)
    place, turn, scale = present(session).decompose()
    if location is not None:
        place = Vector(checks.vector("location", location))
    if rotation is not None:
        turn = read_rotation(rotation)
    if look_at is not None:
        direction = Vector(checks.vector("look_at", look_at)) - place
        if direction.length < 1e-9:
            raise ValueError("`look_at` is where the camera is: give another point")
        turn = direction.to_track_quat("-Z", "Y")
    put(session, Matrix.LocRotScale(place, turn, scale), in_order)
    stay_bound(session)


@operation
def offset_camera(session: Session, offset: Any) -> None:
    """Moves the camera along its own axes: right, up and back, in scene units."""
    moved = checks.vector("offset", offset)
    pose = present(session)
    place = unscaled(pose) @ Vector(moved)
    put(session, Matrix.Translation(place - pose.translation) @ pose)
    stay_bound(session)


@operation
def rotate_camera(session: Session, angle: float) -> None:
    """Turns the camera around its optical axis, clockwise as seen from behind it, in radians: what
    it sees turns the other way."""
    angle = checks.real("angle", angle, -ANGLE_MAX, ANGLE_MAX)
    # Clockwise for one who looks along −z. Half a turn at most at once: the next of all equal
    # rotations would otherwise be the one that has turned less.
    steps = max(1, math.ceil(abs(angle) / (math.pi / 2)))
    turn = Matrix.Rotation(-angle / steps, 4, "Z")
    for _ in range(steps):
        put(session, present(session) @ turn)
    stay_bound(session)


@operation
def set_camera_keyframe(session: Session, frame: int, matrix: Any = None) -> None:
    """Keyframes of the camera's place, rotation and scale: of a pose, or of the present one. The
    camera keeps that pose until the frame changes."""
    frame = checks.frame("frame", frame)
    camera = session.camera
    if matrix is not None:
        pose = checks.pose("matrix", matrix)
        # Next to the rotation of the keyframe before: the camera itself may be elsewhere.
        recall_rotation(camera, frame)
        put(session, pose)
    turned = {"QUATERNION": "rotation_quaternion", "AXIS_ANGLE": "rotation_axis_angle"}
    paths = ("location", turned.get(camera.rotation_mode, "rotation_euler"), "scale")
    before = [(path, list(getattr(camera, path))) for path in paths]
    for path in paths:
        if not camera.keyframe_insert(data_path=path, frame=frame):
            raise RuntimeError(f"Blender inserts no keyframe of `{path}` of `{camera.name}`")
    session.keyed.add(camera.name)
    # A new keyframe lets the animation move the camera to where the current frame has it.
    bpy.context.view_layer.update()
    for path, value in before:
        setattr(camera, path, value)
    bpy.context.view_layer.update()
    stay_bound(session, animation=False)


def present(session: Session) -> Matrix:
    """The camera's pose, with its scale."""
    camera = session.camera
    bpy.context.view_layer.update()
    return camera.matrix_world.copy()


def put(session: Session, pose: Matrix, in_order: bool = True) -> None:
    """Gives the camera this pose, whatever its parent is."""
    camera = session.camera
    if camera.rotation_mode == "QUATERNION":
        attribute = "rotation_quaternion"
    elif camera.rotation_mode in EULER:
        attribute = "rotation_euler"
    else:
        attribute = ""
    before = getattr(camera, attribute).copy() if attribute else None
    camera.matrix_world = pose
    if before is not None and in_order:
        turned = getattr(camera, attribute).copy()
        turned.make_compatible(before)
        setattr(camera, attribute, turned)
    bpy.context.view_layer.update()


def read_rotation(value: Any) -> Quaternion:
    """Of one of the three shapes."""
    if checks.is_row(value) and len(value) and not checks.is_row(value[0]):
        if len(value) == 3:
            return Euler(checks.vector("rotation", value)).to_quaternion()
        if len(value) == 4:
            quaternion = Quaternion(checks.vector("rotation", value, 4))
            if abs(quaternion.magnitude - 1) > checks.FLAT:
                raise ValueError(
                    f"`rotation` is no quaternion of length 1, but of {quaternion.magnitude:g}"
                )
            return quaternion.normalized()
    if checks.is_row(value) and len(value) == 3:
        return checks.rotation("rotation", checks.matrix("rotation", value, 3)).to_quaternion()
    raise TypeError(
        "rotation is a 3x3 matrix as rows, 3 Euler angles XYZ in radians or a quaternion WXYZ, "
        f"not {checks.shown(value)}"
    )


def recall_rotation(camera: bpy.types.Object, frame: int) -> None:
    """Turns the camera as its curves have it in a frame."""
    data = camera.animation_data
    if data is None or data.action is None:
        return
    slot = getattr(data, "action_slot", None)
    for owner, curve in curves.curves_of(data.action):
        if slot is not None and owner.slot != slot.identifier:
            continue
        if curve.data_path in ("rotation_euler", "rotation_quaternion"):
            getattr(camera, curve.data_path)[curve.array_index] = curve.evaluate(frame)


def stay_bound(session: Session, animation: bool = True) -> None:
    """Warns if the camera will not stay where it was put."""
    camera = session.camera
    binding = [one.name for one in camera.constraints if not one.mute and one.influence > 0]
    if binding:
        session.warn(
            f"constraints of camera `{camera.name}` move it from where it is put "
            f"({', '.join(binding)}): call unbind_camera first"
        )
    if animation and moves(camera) and camera.name not in session.keyed:
        session.warn(
            f"camera `{camera.name}` is animated, and the next frame moves it to where its "
            "animation has it: call unbind_camera first, or set keyframes"
        )


def moves(camera: bpy.types.Object) -> bool:
    data = camera.animation_data
    if data is None:
        return False
    return data.action is not None or bool(data.nla_tracks) or bool(data.drivers)
