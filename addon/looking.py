# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera that looks around for a skybox: it exists only while its pictures are rendered.

It is in no collection, so that it changes nothing that can be seen, and without the scene using it
neither files nor undo keep it.
"""

from __future__ import annotations

import math
from typing import Any

import bpy
from mathutils import Matrix, Vector

MARK = "grange_looks_around"

FORWARD_AND_UP = {
    "FRONT": ((0, 0, -1), (0, 1, 0)),
    "BACK": ((0, 0, 1), (0, 1, 0)),
    "LEFT": ((-1, 0, 0), (0, 1, 0)),
    "RIGHT": ((1, 0, 0), (0, 1, 0)),
    "UP": ((0, 1, 0), (0, 0, 1)),
    "DOWN": ((0, -1, 0), (0, 0, -1)),
}
"""In the space of a camera, which looks along -Z with Y upwards."""

UPRIGHT = Matrix.Rotation(math.radians(90), 4, "X")
"""From a camera's space to that of anything else: an empty's front is Y and its top is Z."""


def camera(scene: bpy.types.Scene, origin: bpy.types.Object, look: str) -> bpy.types.Object:
    """A camera at `origin` as it is now in `scene`, that looks to one side of six."""
    made = next((one for one in bpy.data.objects if MARK in one), None)
    if made is None:
        made = bpy.data.objects.new(".Grange Skybox", bpy.data.cameras.new(".Grange Skybox"))
        made[MARK] = True
    _square(made.data, origin)
    made.matrix_world = placed(scene, origin) @ turned(look)
    return made


def camera_that_follows(origin: bpy.types.Object, look: str) -> bpy.types.Object:
    """A camera that stays where `origin` is, also when that moves, and looks to one side of it.

    It is in no collection yet.
    """
    lens = bpy.data.cameras.new("Grange Skybox")
    made = bpy.data.objects.new(f"Grange {origin.name} {look.capitalize()}", lens)
    _square(lens, origin)
    made.rotation_mode = "QUATERNION"
    turn = turned(look) if origin.type == "CAMERA" else UPRIGHT @ turned(look)
    made.rotation_quaternion = turn.to_quaternion()
    made.constraints.new("COPY_LOCATION").target = origin
    turning = made.constraints.new("COPY_ROTATION")
    turning.target, turning.mix_mode = origin, "BEFORE"
    return made


def _square(lens: Any, origin: bpy.types.Object) -> None:
    """The lens for one side of six."""
    lens.type, lens.sensor_fit, lens.angle = "PERSP", "AUTO", math.radians(90)
    lens.shift_x = lens.shift_y = 0.0
    lens.dof.use_dof = False
    own = origin.data if origin.type == "CAMERA" else None
    lens.clip_start = own.clip_start if own else 0.01
    lens.clip_end = own.clip_end if own else 10_000.0


def placed(scene: bpy.types.Scene, origin: bpy.types.Object) -> Matrix:
    """Where `origin` is and how a camera there would look straight ahead; without its scale."""
    layer = scene.view_layers[0]
    layer.update()
    place, turn, _ = origin.evaluated_get(layer.depsgraph).matrix_world.decompose()
    ahead = Matrix.Translation(place) @ turn.to_matrix().to_4x4()
    return ahead if origin.type == "CAMERA" else ahead @ UPRIGHT


def turned(look: str) -> Matrix:
    """From straight ahead to that side."""
    forward, up = (Vector(axis) for axis in FORWARD_AND_UP[look])
    return Matrix((forward.cross(up), up, -forward)).transposed().to_4x4()


def clear() -> None:
    """Removes it. Not while Blender renders: the render has it in use."""
    for one in [one for one in bpy.data.objects if MARK in one]:
        lens = one.data
        bpy.data.objects.remove(one)
        bpy.data.cameras.remove(lens)
