"""Cycles' scene data, kept between renders where that is wished for and right.

Blender keeps too much: after a change of view layer together with another frame, and in 4.5 after
a change of samples alone, the next pictures show some of the old. So the data of one shot is kept
while its frames render, and dropped before any other shot. Scenes whose very frames come out wrong
keep nothing: those with particle systems, and before 4.2 those with animated visibility.
"""

from __future__ import annotations

from typing import Any

import bpy

from worker.overrides import pick


class Persistence:
    """The one owner of `use_persistent_data`. It is not put back after each shot as other
    properties are, because switching it off is what drops the data."""

    def __init__(self) -> None:
        self._own: dict[str, bool] = {}
        self._unfit = False
        self._kept: tuple[str, Any] | None = None
        self._changes = 0

    def scene_changed(self) -> None:
        """Somebody has changed the scene between two renders."""
        self._changes += 1

    def file_opened(self) -> None:
        self._own = {scene.name: scene.render.use_persistent_data for scene in bpy.data.scenes}
        self._unfit = comes_out_wrong()
        self._kept = None

    def begin(self, scene: bpy.types.Scene, wanted: bool | None, shot: Any) -> None:
        """Before a render of the scene; `shot` is everything that makes it this shot, but the
        frame. `None` leaves the choice to the file."""
        keep = self._own.get(scene.name, False) if wanted is None else wanted
        keep = keep and not self._unfit
        shot = (self._changes, shot)
        if self._kept != (scene.name, shot):
            self.drop()
        if scene.render.use_persistent_data != keep:
            scene.render.use_persistent_data = keep
        self._kept = (scene.name, shot) if keep else None

    def drop(self) -> None:
        """Frees what is kept: another shot comes, or the last one did not end well."""
        if self._kept is not None:
            scene = pick(bpy.data.scenes, self._kept[0])
            if scene is not None:
                scene.render.use_persistent_data = False
        self._kept = None


def comes_out_wrong() -> bool:
    """Whether the file has what later frames show as an earlier one did, when data is kept."""
    if any(len(item.particle_systems) > 0 for item in bpy.data.objects):
        return True
    if bpy.app.version >= (4, 2):
        return False
    animated = [curve for action in bpy.data.actions for curve in action.fcurves]
    for item in bpy.data.objects:
        if item.animation_data is not None:
            animated.extend(item.animation_data.drivers)
    return any(curve.data_path == "hide_render" for curve in animated)
