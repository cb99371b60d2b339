# SPDX-License-Identifier: GPL-3.0-or-later
"""The operators that change the list of shots."""

# pyright: reportInvalidTypeForm=false

import bpy
from bpy.props import BoolProperty, EnumProperty, IntProperty

from . import shots
from .plan.pictures import LOOKS

COPIED = (
    *("enabled", "camera", "look", "frames", "scene", "view_layer", "use_resolution"),
    *("resolution_x", "resolution_y", "use_samples", "samples", "output"),
)
"""Whatever a shot has besides its name."""

SIDES = {look: look.capitalize() for look in LOOKS}


class OfList:
    """What all of them share."""

    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        return context.scene is not None and context.scene.library is None


class OfShot(OfList):
    """Those that need a shot that is chosen."""

    @classmethod
    def poll(cls, context):
        return super().poll(context) and shots.active_shot(context.scene) is not None


class GRANGE_OT_shot_add(OfList, bpy.types.Operator):
    """Add a shot of the scene's camera at the current frame"""

    bl_idname = "grange.shot_add"
    bl_label = "Add Shot"

    def execute(self, context):
        add(context.scene, "Shot")
        return {"FINISHED"}


class GRANGE_OT_shot_duplicate(OfShot, bpy.types.Operator):
    """Add a copy of the shot that is chosen, below it"""

    bl_idname = "grange.shot_duplicate"
    bl_label = "Duplicate Shot"

    def execute(self, context):
        settings = context.scene.grange
        at = settings.active
        made = add(context.scene, settings.shots[at].name)
        # Adding may move the others in memory.
        for name in COPIED:
            setattr(made, name, getattr(settings.shots[at], name))
        settings.shots.move(settings.active, at + 1)
        settings.active = at + 1
        return {"FINISHED"}


class GRANGE_OT_shot_remove(OfShot, bpy.types.Operator):
    """Remove the shot that is chosen, or all of them"""

    bl_idname = "grange.shot_remove"
    bl_label = "Remove Shot"

    all: BoolProperty(name="All", description="Remove every shot of the list")

    def execute(self, context):
        settings = context.scene.grange
        if self.all:
            settings.shots.clear()
        else:
            settings.shots.remove(settings.active)
        settings.active = max(0, min(settings.active, len(settings.shots) - 1))
        return {"FINISHED"}


class GRANGE_OT_shot_move(OfShot, bpy.types.Operator):
    """Move the shot that is chosen up or down; shots are rendered from the top"""

    bl_idname = "grange.shot_move"
    bl_label = "Move Shot"

    direction: EnumProperty(
        name="Direction", items=[("UP", "Up", "Earlier"), ("DOWN", "Down", "Later")]
    )

    def execute(self, context):
        settings = context.scene.grange
        to = settings.active + (-1 if self.direction == "UP" else 1)
        if not 0 <= to < len(settings.shots):
            return {"CANCELLED"}
        settings.shots.move(settings.active, to)
        settings.active = to
        return {"FINISHED"}


class GRANGE_OT_shots_enable(OfList, bpy.types.Operator):
    """Tick all shots, or none"""

    bl_idname = "grange.shots_enable"
    bl_label = "Tick Shots"

    enabled: BoolProperty(name="Render", default=True)

    def execute(self, context):
        for shot in context.scene.grange.shots:
            shot.enabled = self.enabled
        return {"FINISHED"}


class GRANGE_OT_shots_from_cameras(OfList, bpy.types.Operator):
    """Add a shot for every camera of the scene that has none yet"""

    bl_idname = "grange.shots_from_cameras"
    bl_label = "From All Cameras"

    def execute(self, context):
        scene = context.scene
        taken = {shot.camera for shot in scene.grange.shots if shot.look == "AHEAD"}
        cameras = [one for one in scene.objects if one.type == "CAMERA" and one not in taken]
        for camera in sorted(cameras, key=lambda one: one.name):
            add(scene, camera.name).camera = camera
        return self.said(len(cameras))

    def said(self, number):
        if not number:
            self.report({"INFO"}, "Every camera of the scene has its shot already")
            return {"CANCELLED"}
        return {"FINISHED"}


class GRANGE_OT_shots_from_markers(OfList, bpy.types.Operator):
    """Add a shot for every marker of the timeline, seen by its camera if it has one"""

    bl_idname = "grange.shots_from_markers"
    bl_label = "From Markers"

    until_next: BoolProperty(
        name="Until the Next",
        description="Each shot goes on until the next marker, the last one to the scene's end; "
        "else it is the marker's frame alone",
    )

    def execute(self, context):
        scene = context.scene
        markers = sorted(scene.timeline_markers, key=lambda one: one.frame)
        if not markers:
            self.report({"WARNING"}, "The timeline has no markers: add some with M")
            return {"CANCELLED"}
        ends = [marker.frame - 1 for marker in markers[1:]] + [scene.frame_end]
        for marker, end in zip(markers, ends, strict=True):
            shot = add(scene, marker.name)
            shot.camera = marker.camera
            goes_on = self.until_next and end > marker.frame
            shot.frames = f"{marker.frame}-{end}" if goes_on else str(marker.frame)
        return {"FINISHED"}


class GRANGE_OT_shots_skybox(OfList, bpy.types.Operator):
    """Add six square shots, to all sides of the active camera or empty"""

    bl_idname = "grange.shots_skybox"
    bl_label = "Skybox"

    size: IntProperty(
        name="Size", subtype="PIXEL", default=1024, min=4, max=65536, description="Of each side"
    )

    def execute(self, context):
        scene = context.scene
        active = context.view_layer.objects.active
        chosen = active is not None and active.select_get() and active.type in shots.SEEN_FROM
        origin = active if chosen else scene.camera
        if origin is None:
            self.report({"WARNING"}, "Select a camera or an empty where the skybox is seen from")
            return {"CANCELLED"}
        for look, side in SIDES.items():
            shot = add(scene, f"{origin.name} {side}")
            shot.camera, shot.look = origin, look
            shot.use_resolution = True
            shot.resolution_x = shot.resolution_y = self.size
        return {"FINISHED"}


def add(scene, name):
    """A shot at the end, chosen, with a name that no other has."""
    settings = scene.grange
    name = free(name, {shot.name for shot in settings.shots})
    shot = settings.shots.add()
    shot.name = name
    settings.active = len(settings.shots) - 1
    return shot


def free(name, taken):
    """The name, with a number after it if it is taken, as Blender does it."""
    stem, _, end = name.rpartition(".")
    if not (stem and end.isdigit() and len(end) == 3):
        stem = name
    number = 1
    while name in taken:
        name = f"{stem}.{number:03}"
        number += 1
    return name


CLASSES = (
    GRANGE_OT_shot_add,
    GRANGE_OT_shot_duplicate,
    GRANGE_OT_shot_remove,
    GRANGE_OT_shot_move,
    GRANGE_OT_shots_enable,
    GRANGE_OT_shots_from_cameras,
    GRANGE_OT_shots_from_markers,
    GRANGE_OT_shots_skybox,
)
