# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of shots, as the scene keeps it and the .blend file saves it."""

# pyright: reportInvalidTypeForm=false

import os

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

from .plan import hosts, pictures

SEEN_FROM = {"CAMERA", "EMPTY"}

WHAT = (
    ("ANIMATION", "Animation", "The scene's range of frames"),
    ("FRAME", "Frame", "The current frame"),
    ("SHOTS", "Shots", "The ticked shots of the list"),
)
"""What a farm renders of a scene."""


def _can_see(_shot, thing):
    return thing.type in SEEN_FROM


def _tags(_settings, _context, text):
    """What the farm's hosts have, for whoever begins to write one."""
    from .farm import live

    return hosts.completed(text, {tag for agent in live.desk.agents() for tag in agent.tags})


class GRANGE_Shot(bpy.types.PropertyGroup):
    """A picture, or several frames of one view, under one name."""

    enabled: BoolProperty(
        name="Render", description="Render this shot with the others", default=True
    )
    camera: PointerProperty(
        name="Camera",
        type=bpy.types.Object,
        poll=_can_see,
        description="What the shot is seen from; the scene's camera if this is empty",
    )
    look: EnumProperty(
        name="Look",
        description="Where the shot looks from there",
        items=[
            ("AHEAD", "Through the Camera", "The picture of the camera itself"),
            ("FRONT", "Front", "A square view straight ahead, 90° wide"),
            ("BACK", "Back", "A square view backwards, 90° wide"),
            ("LEFT", "Left", "A square view to the left, 90° wide"),
            ("RIGHT", "Right", "A square view to the right, 90° wide"),
            ("UP", "Up", "A square view upwards, 90° wide"),
            ("DOWN", "Down", "A square view downwards, 90° wide"),
        ],
        default="AHEAD",
    )
    frames: StringProperty(
        name="Frames",
        description="12, 1-24, 1-100x4 or 3, 5-10; the current frame if this is empty",
    )
    scene: PointerProperty(
        name="Scene",
        type=bpy.types.Scene,
        description="The scene that is rendered; this one if it is empty",
    )
    view_layer: StringProperty(
        name="View Layer",
        description="Render this view layer alone; those that the scene renders if it is empty",
    )
    use_resolution: BoolProperty(name="Resolution", description="Render at a resolution of its own")
    resolution_x: IntProperty(
        name="Width", subtype="PIXEL", default=1920, min=4, max=65536, description="In pixels"
    )
    resolution_y: IntProperty(
        name="Height", subtype="PIXEL", default=1080, min=4, max=65536, description="In pixels"
    )
    use_samples: BoolProperty(
        name="Samples", description="Render with a number of samples of its own"
    )
    samples: IntProperty(
        name="Samples", default=128, min=1, max=1 << 24, description="For each pixel"
    )
    output: StringProperty(
        name="Output",
        default="{shot}",
        description="The pictures' name, below the folder of the scene's output path: with "
        "{shot}, {camera}, {scene} and {frame:04}; several frames are always numbered",
    )


class GRANGE_SceneSettings(bpy.types.PropertyGroup):
    """All that Grange keeps in a scene."""

    shots: CollectionProperty(type=GRANGE_Shot)
    active: IntProperty(name="Shot", description="The shot that is chosen in the list")
    what: EnumProperty(
        name="What", description="What the farm renders", items=WHAT, default="ANIMATION"
    )
    tags: StringProperty(
        name="Hosts With",
        description="Only hosts of the farm that have all of these tags render the scene; with "
        "commas between them, and any host if it is empty",
        search=_tags,
        search_options={"SUGGESTION"},
    )
    before: StringProperty(
        options={"HIDDEN"},
        description="What Grange has changed for the picture that is being rendered",
    )


def active_shot(scene):
    """The shot that is chosen in the list, or None."""
    settings = scene.grange
    return settings.shots[settings.active] if 0 <= settings.active < len(settings.shots) else None


def wanted(scene, *, only_active=False, on_farm=False):
    """The shots that are to be rendered, as the plan has them.

    Raises `ValueError` with a sentence that names the shot and what it lacks. A farm says itself
    what its own Blenders cannot do.
    """
    if only_active:
        chosen = [shot for shot in (active_shot(scene),) if shot is not None]
    else:
        chosen = [shot for shot in scene.grange.shots if shot.enabled]
    return [plain(scene, shot, on_farm=on_farm) for shot in chosen]


def plain(scene, shot, *, on_farm=False):
    """One shot, with what it leaves open taken from its scene. Raises `ValueError` likewise."""
    target = shot.scene or scene
    render = target.render
    seen_from = shot.camera or target.camera
    looks = shot.look != "AHEAD"
    _refuse(shot, target, seen_from, looks)
    if not on_farm:
        _refuse_denoiser(shot, target)
    layer = shot.view_layer.strip() or None
    size = (shot.resolution_x, shot.resolution_y) if shot.use_resolution else None
    return pictures.Shot(
        name=shot.name,
        scene=target.name,
        camera=seen_from.name if shot.camera or looks else None,
        seen_by=seen_from.name if seen_from else "",
        frames=shot.frames,
        frame_now=target.frame_current,
        folder=folder(target),
        extension=".png" if render.is_movie_format else render.file_extension,
        output=shot.output,
        look=shot.look if looks else None,
        view_layer=layer,
        resolution=size,
        samples=shot.samples if shot.use_samples else None,
        weight=_weight(target, shot),
    )


def folder(scene):
    """Where the scene's pictures go: its output path without the file's name."""
    path = scene.render.filepath.replace("\\", "/")
    return os.path.abspath(bpy.path.abspath(path[: path.rfind("/") + 1] or "//"))


def _refuse(shot, scene, seen_from, looks):
    name = f"shot `{shot.name}`"
    if scene.library is not None:
        raise ValueError(f"{name}: scene `{scene.name}` is linked: render it from its own file")
    if scene.render.filepath.startswith("//") and not bpy.data.filepath:
        raise ValueError(
            f"{name}: the output path `{scene.render.filepath}` begins at the file's folder: "
            "save the file first, or choose another path"
        )
    if shot.view_layer.strip() and shot.view_layer.strip() not in scene.view_layers:
        raise ValueError(f"{name}: scene `{scene.name}` has no view layer `{shot.view_layer}`")
    if seen_from is None:
        if any(marker.camera for marker in scene.timeline_markers):
            return
        raise ValueError(f"{name}: scene `{scene.name}` has no camera: choose one for the shot")
    if scene.objects.get(seen_from.name) is not seen_from and shot.camera:
        raise ValueError(
            f"{name}: `{seen_from.name}` is not in scene `{scene.name}`: choose another camera"
        )
    if seen_from.type != "CAMERA" and not looks:
        raise ValueError(
            f"{name}: `{seen_from.name}` is no camera: choose one, or where the shot looks from it"
        )


def _refuse_denoiser(shot, scene):
    if _wants_denoiser(scene, shot.view_layer.strip()) and not _has_denoiser():
        raise ValueError(
            f"shot `{shot.name}`: this Blender was built without a denoiser, and scene "
            f"`{scene.name}` wants one: turn off Render Properties > Sampling > Render > Denoise"
        )


def _wants_denoiser(scene, only_layer):
    if scene.render.engine != "CYCLES" or not scene.cycles.use_denoising:
        return False
    rendered = (one for one in scene.view_layers if (one.name == only_layer) or not only_layer)
    return any((only_layer or one.use) and one.cycles.use_denoising for one in rendered)


def _has_denoiser():
    """Debian's Blender has none, and Cycles ends a render there as if it were canceled."""
    try:
        import _cycles
    except ImportError:
        return False
    return bool(getattr(_cycles, "with_openimagedenoise", False))


def _weight(scene, shot):
    """Pixels times samples, roughly what a picture costs."""
    render = scene.render
    scale = render.resolution_percentage / 100
    width, height = render.resolution_x * scale, render.resolution_y * scale
    if shot.use_resolution:
        width, height = shot.resolution_x, shot.resolution_y
    samples = shot.samples if shot.use_samples else _samples(scene)
    return float(width * height * max(1, samples))


def _samples(scene):
    if scene.render.engine == "CYCLES":
        return scene.cycles.samples
    return getattr(getattr(scene, "eevee", None), "taa_render_samples", 1)


CLASSES = (GRANGE_Shot, GRANGE_SceneSettings)


def register():
    bpy.types.Scene.grange = PointerProperty(type=GRANGE_SceneSettings)


def unregister():
    del bpy.types.Scene.grange
