"""Operations that give nothing back, the same on one instance and on several.

Everything that is not named in a call stays as the artist has it in the file. Lengths are Blender
units, angles radians; the world is right-handed with +Z up, a camera looks along its −Z and has +Y
up. Each raises what it raised in Blender (`ValueError`, `TypeError`, `RuntimeError`, …) with the
remote traceback as its cause, and `InstanceLost` if the instance is gone.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

Vector = Sequence[float]
"""Three numbers: x, y, z. A numpy array will do."""
Matrix = Sequence[Sequence[float]]
"""Rows. A numpy array will do."""
Codec = Literal["NONE", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24"]
"""Compression of the OpenEXR files of ground truths. PXR24 alone loses something."""
Path = str | os.PathLike[str]


def given(**args: Any) -> dict[str, Any]:
    """The arguments that are not `None`."""
    return {name: value for name, value in args.items() if value is not None}


class Operations(ABC):
    """What can be set, and what every rendered frame is to come with."""

    @abstractmethod
    def _do(self, operation: str, args: dict[str, Any]) -> None:
        """Does an operation that gives nothing back."""

    def set_animation_range(
        self, start: int | None = None, stop: int | None = None, step: int | None = None
    ) -> None:
        """Sets the frames of the animation as `range(start, stop, step)` has them: `stop` is the
        first frame that is not part of it.
        """
        self._do("set_animation_range", given(start=start, stop=stop, step=step))

    def move_keyframes(self, scale: float = 1.0, shift: float = 0.0) -> None:
        """Moves every keyframe from frame t to `scale * t + shift`: a scale of 2 is slow motion.
        The animation's range and its markers go along; the shutter of motion blur, physics and
        caches stay.
        """
        self._do("move_keyframes", {"scale": scale, "shift": shift})

    def set_resolution(
        self, height: int | tuple[int, int] | list[int], width: int | None = None
    ) -> None:
        """Sets the size of pictures in pixels: `set_resolution(480, 640)`, or the shape of an array
        as one, `set_resolution((480, 640))`.
        """
        if isinstance(height, int):
            if width is None:
                raise TypeError("give the width as well: set_resolution(height, width)")
        elif width is not None or len(height) != 2:
            raise TypeError("give height and width: set_resolution((height, width))")
        else:
            height, width = height
        self._do("set_resolution", {"height": height, "width": width})

    def image_settings(
        self,
        file_format: str | None = None,
        bit_depth: int | None = None,
        color_mode: Literal["BW", "RGB", "RGBA"] | None = None,
        *,
        codec: str | None = None,
        quality: int | None = None,
    ) -> None:
        """Sets how pictures are stored.

        `file_format` is Blender's name of it, such as `PNG`, `JPEG`, `OPEN_EXR`; `bit_depth` is 8,
        10, 12, 16 or 32 bits a channel, as far as the format has it; `codec` is the
        compression of OpenEXR and TIFF; `quality` 0..100 is that of formats that lose something.
        """
        args = given(file_format=file_format, bit_depth=bit_depth, color_mode=color_mode)
        self._do("image_settings", args | given(codec=codec, quality=quality))

    def use_motion_blur(self, enable: bool) -> None:
        """Turns the scene's motion blur on or off."""
        self._do("use_motion_blur", {"enable": enable})

    def use_animations(self, enable: bool) -> None:
        """Turns everything that is animated on or off. Off, the scene stays as it is at the frame
        that it is at. What the file itself has muted stays so.
        """
        self._do("use_animations", {"enable": enable})

    def load_addons(self, *names: str) -> None:
        """Enables add-ons that the instance's Blender has, by their module's names."""
        self._do("load_addons", {"names": list(names)})

    def unbind_camera(self) -> None:
        """Frees the camera from its parents, constraints and animations; it stays where it is."""
        self._do("unbind_camera", {})

    def position_camera(
        self,
        location: Vector | None = None,
        rotation: Matrix | Vector | None = None,
        look_at: Vector | None = None,
        *,
        in_order: bool = True,
    ) -> None:
        """Places the camera in the world.

        `rotation` is a 3×3 rotation matrix (camera to world), Euler angles x, y, z in radians, or a
        quaternion w, x, y, z; `look_at` is a point to look at instead, with the camera's +Y as far
        up as can be. What is not given stays. `in_order`: among equal rotations the one next to the
        present one is taken, so that keyframes of a path turn the short way.
        """
        if rotation is not None and look_at is not None:
            raise ValueError("give a rotation or a point to look at, not both")
        args = given(location=location, rotation=rotation, look_at=look_at)
        self._do("position_camera", args | {"in_order": in_order})

    def offset_camera(self, offset: Vector) -> None:
        """Moves the camera along its own axes: +x right, +y up, −z ahead."""
        self._do("offset_camera", {"offset": offset})

    def rotate_camera(self, angle: float) -> None:
        """Rolls the camera about the axis that it looks along, clockwise as seen from behind it, in
        radians.
        """
        self._do("rotate_camera", {"angle": angle})

    def set_camera_keyframe(self, frame: int, matrix: Matrix | None = None) -> None:
        """Keys the camera's pose at a frame: the present one, or a 4×4 camera-to-world matrix."""
        self._do("set_camera_keyframe", {"frame": frame, **given(matrix=matrix)})

    def set_current_frame(self, frame: int) -> None:
        """Goes to a frame. It need not be in the animation's range."""
        self._do("set_current_frame", {"frame": frame})

    def include_depths(self, debug: bool = False, codec: Codec = "ZIP") -> None:
        """From now on every frame comes with its depth, `depths/depth_000012.exr`: the distance
        from the camera's plane along its view, in Blender units, 32 bits, infinite where there is
        nothing. Like all ground truths it is made in one pass with the picture. `debug` adds a PNG
        for the eye.
        """
        self._do("include_depths", {"debug": debug, "codec": codec})

    def include_normals(
        self,
        space: Literal["camera", "world"] = "camera",
        debug: bool = False,
        codec: Codec = "ZIP",
    ) -> None:
        """From now on every frame comes with its surface normals, `normals/normal_000012.exr`:
        unit vectors x, y, z in axes of the camera (+x right, +y up, +z towards it) or the world,
        zero where there is nothing.
        """
        self._do("include_normals", {"space": space, "debug": debug, "codec": codec})

    def include_flows(
        self,
        direction: Literal["both", "forward", "backward"] = "both",
        debug: bool = False,
        codec: Codec = "ZIP",
    ) -> None:
        """From now on every frame comes with its optical flow, `flows/flow_000012.exr`: how far
        from here what is seen is in the frame after (forward) and in the frame before (backward),
        in pixels, x to the right, y down. Blender knows it only without motion blur.
        """
        self._do("include_flows", {"direction": direction, "debug": debug, "codec": codec})

    def include_diffuses(self, debug: bool = False, codec: Codec = "ZIP") -> None:
        """From now on every frame comes with the diffuse colour of its surfaces (albedo), linear,
        without light: `diffuses/diffuse_000012.exr`.
        """
        self._do("include_diffuses", {"debug": debug, "codec": codec})

    def include_speculars(self, debug: bool = False, codec: Codec = "ZIP") -> None:
        """From now on every frame comes with the light that glossy parts of the surfaces reflect,
        direct and indirect, times their colour, linear: `speculars/specular_000012.exr`.
        """
        self._do("include_speculars", {"debug": debug, "codec": codec})

    def include_points(self, debug: bool = False, codec: Codec = "ZIP") -> None:
        """From now on every frame comes with the position of what is seen, x, y, z in the world, in
        Blender units, zero where there is nothing: `points/points_000012.exr`.
        """
        self._do("include_points", {"debug": debug, "codec": codec})

    def include_composites(self) -> None:
        """From now on every frame comes twice: `composites/composite_000012` is the picture as the
        scene composites it, `frames/frame_000012` what it was before that, both in the format of
        pictures. Raises `ValueError` if the scene does not composite.
        """
        self._do("include_composites", {})

    def exclude(self, kind: str) -> None:
        """Frames come without one of these again: `depth`, `normal`, `flow`, `segmentation`,
        `material`, `diffuse`, `specular`, `points`, `composite`.
        """
        self._do("exclude", {"kind": kind})

    def clear_truths(self) -> None:
        """Frames come without any ground truths again."""
        self._do("clear_truths", {})
