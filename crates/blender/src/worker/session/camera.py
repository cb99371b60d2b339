"""What there is to know of the camera that renders: where it is, and what it sees.

Poses are 4x4 matrices, as rows, from the camera's space to the world's: x is right, y up, and it
looks along −z. Pixels count from the outer corner of the picture's upper left one, x to the right
and y down, so that the first pixel's middle is at (0.5, 0.5).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import bpy
from mathutils import Matrix

from worker.picture import kept_region, picture_size, whole_size
from worker.session import checks
from worker.session.state import Session, look

CHANNELS = {"BW": 1, "RGB": 3, "RGBA": 4}


@look
def camera_extrinsics(session: Session) -> list[list[float]]:
    """The camera's pose now, without its scale, with constraints, parents and animation."""
    bpy.context.view_layer.update()
    return rows(unscaled(session.camera.matrix_world))


@look
def poses(session: Session, frames: Iterable[int]) -> list[list[list[float]]]:
    """The camera's pose in each of these frames. The current frame stays the current one."""
    if not isinstance(frames, Iterable):
        raise TypeError(f"frames is a list of whole numbers, not {checks.shown(frames)}")
    wanted = [checks.frame("a frame", one) for one in checks.plain(list(frames))]
    scene = session.scene
    before, between = scene.frame_current, scene.frame_subframe
    found = []
    try:
        for frame in wanted:
            scene.frame_set(frame)
            found.append(rows(unscaled(session.camera.matrix_world)))
    finally:
        scene.frame_set(before, subframe=between)
    return found


@look
def camera_intrinsics(session: Session) -> list[list[float]]:
    """The 3x3 matrix that projects a point in front of the camera to pixels, with y and z of the
    camera's space turned round: (u, v, 1) ~ K @ (x, −y, −z).

    A `RuntimeError` for cameras that are no pinholes.
    """
    camera = session.camera
    kind = camera.data.type
    if kind != "PERSP":
        raise RuntimeError(
            f"camera `{camera.name}` is of type {kind}, and only a perspective one (PERSP) has "
            "intrinsics"
        )
    return intrinsics(session.scene, camera.data)


@look
def camera_info(session: Session) -> dict[str, Any]:
    """What a `transforms.json` begins with, at the current frame: the lens (mm), the angles of
    view (radians), the picture's size and the focal lengths (pixels). Where there is no pinhole
    `intrinsics` and the numbers from it are null."""
    scene, camera = session.scene, session.camera
    data = camera.data
    names = (
        *("type", "angle", "angle_x", "angle_y", "clip_start", "clip_end", "lens", "lens_unit"),
        *("sensor_fit", "sensor_width", "sensor_height", "shift_x", "shift_y"),
    )
    width, height = picture_size(scene)
    matrix = intrinsics(scene, data) if data.type == "PERSP" else None
    return {
        "camera": camera.name,
        **{name: getattr(data, name) for name in names},
        "ortho_scale": data.ortho_scale if data.type == "ORTHO" else None,
        "w": width,
        "h": height,
        "c": CHANNELS[scene.render.image_settings.color_mode],
        "fl_x": matrix[0][0] if matrix else None,
        "fl_y": matrix[1][1] if matrix else None,
        "cx": matrix[0][2] if matrix else None,
        "cy": matrix[1][2] if matrix else None,
        "intrinsics": matrix,
        "frame": scene.frame_current,
    }


def intrinsics(scene: bpy.types.Scene, data: bpy.types.Camera) -> list[list[float]]:
    """As Blender computes its view plane (`BKE_camera_params_compute_viewplane`): the sensor's
    side lies along the picture's longer one, measured with the shape of its pixels, unless the
    camera says which; shifts are in lengths of that side."""
    render = scene.render
    width, height = whole_size(scene)
    # Of a pixel: its height, in widths.
    tall = render.pixel_aspect_y / render.pixel_aspect_x
    fit = data.sensor_fit
    if fit == "AUTO":
        fit = "HORIZONTAL" if width >= tall * height else "VERTICAL"
    sensor = data.sensor_height if data.sensor_fit == "VERTICAL" else data.sensor_width
    # In widths of a pixel, as long as nothing else is said.
    side = width if fit == "HORIZONTAL" else tall * height
    focal = data.lens / sensor * side
    across = width / 2 - data.shift_x * side
    down = height / 2 + data.shift_y * side / tall
    left, _, _, upper = kept_region(scene)
    across, down = across - left, down - (height - upper)
    return [[focal, 0.0, across], [0.0, focal / tall, down], [0.0, 0.0, 1.0]]


def unscaled(matrix: Matrix) -> Matrix:
    """With axes of length 1, as render engines take a camera: what is mirrored stays so."""
    return matrix.normalized()


def rows(matrix: Matrix) -> list[list[float]]:
    return [list(row) for row in matrix]
