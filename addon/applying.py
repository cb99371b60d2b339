# SPDX-License-Identifier: GPL-3.0-or-later
"""Making a scene show what a picture asks for, by changes that `settings` can put back."""

from __future__ import annotations

import os

import bpy

from . import looking
from .plan.pictures import Picture, Shot
from .settings import FRAME, Changes, put_back

TEMPLATES = bpy.app.version >= (4, 5)
"""From 4.5 on output paths are templates, in which braces mean something."""


def show(picture: Picture) -> None:
    """What the picture does not name stays as the scene has it. Raises `LookupError` if its scene
    or camera is gone."""
    scene, shot = bpy.data.scenes[picture.shot.scene], picture.shot
    put_back(scene, but_frame=True)
    changes = Changes(scene)
    # A frame may bring a marker's camera with it.
    changes.remember("camera")
    if shot.camera is not None:
        _leave_markers(scene, changes)
    changes.set(FRAME, [picture.frame, 0.0])
    _camera(scene, shot, changes)
    _view_layer(scene, shot, changes)
    _size(shot, changes)
    _samples(scene, shot, changes)
    _file(scene, picture, changes)


def _leave_markers(scene: bpy.types.Scene, changes: Changes) -> None:
    """A marker with a camera would switch to that one when its frame comes."""
    for at, marker in enumerate(scene.timeline_markers):
        if marker.camera is not None:
            changes.set(f"timeline_markers[{at}].camera", None)


def _camera(scene: bpy.types.Scene, shot: Shot, changes: Changes) -> None:
    if shot.camera is None:
        return
    seen_from = scene.objects[shot.camera]
    if shot.look is None:
        changes.set("camera", seen_from)
        return
    changes.set("camera", looking.camera(scene, seen_from, shot.look))
    for path in ("render.pixel_aspect_x", "render.pixel_aspect_y"):
        changes.set(path, 1.0)


def _view_layer(scene: bpy.types.Scene, shot: Shot, changes: Changes) -> None:
    if shot.view_layer is None:
        return
    for at, layer in enumerate(scene.view_layers):
        changes.set(f"view_layers[{at}].use", layer.name == shot.view_layer)
    changes.set("render.use_single_layer", False)


def _size(shot: Shot, changes: Changes) -> None:
    if shot.resolution is not None:
        changes.set("render.resolution_x", shot.resolution[0])
        changes.set("render.resolution_y", shot.resolution[1])
        changes.set("render.resolution_percentage", 100)


def _samples(scene: bpy.types.Scene, shot: Shot, changes: Changes) -> None:
    """Engines that know none render as they do."""
    if shot.samples is None:
        return
    if scene.render.engine == "CYCLES":
        changes.set("cycles.samples", shot.samples)
        changes.set("cycles.use_layer_samples", "IGNORE")
    elif changes.has("eevee.taa_render_samples"):
        changes.set("eevee.taa_render_samples", shot.samples)


def _file(scene: bpy.types.Scene, picture: Picture, changes: Changes) -> None:
    """A scene that makes a movie makes PNGs: its pictures come one by one."""
    if scene.render.is_movie_format:
        settings = "render.image_settings"
        changes.remember(*(f"{settings}.{name}" for name in ("color_mode", "color_depth")))
        changes.remember(f"{settings}.file_format")
        if changes.has(f"{settings}.media_type"):
            changes.set(f"{settings}.media_type", "IMAGE")
        changes.set(f"{settings}.file_format", "PNG")
    changes.set("render.use_file_extension", True)
    changes.set("render.filepath", literal(picture.path))


def literal(path: str) -> str:
    """The path as Blender's output properties have to spell it."""
    return path.replace("{", "{{").replace("}", "}}") if TEMPLATES else path


def files(picture: Picture) -> list[str]:
    """What Blender writes for the picture: one file, or one for each eye."""
    render = bpy.data.scenes[picture.shot.scene].render
    if not render.use_multiview or render.image_settings.views_format != "INDIVIDUAL":
        return [picture.path]
    stem, extension = os.path.splitext(picture.path)
    return [f"{stem}{view.file_suffix}{extension}" for view in render.views if view.use]
