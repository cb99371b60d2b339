# SPDX-License-Identifier: GPL-3.0-or-later
"""The panels: the list of shots, the shot that is chosen, and how far a run is."""

import os
from functools import lru_cache

import bpy

from . import bars, running, shots
from .plan import pictures

ROWS = 5
LETTER_WIDTH = 7
"""Pixels of a letter, roughly, at a scale of 1: labels do not wrap by themselves."""


class GRANGE_UL_shots(bpy.types.UIList):
    """A line for each shot."""

    def draw_item(self, _context, layout, _data, item, _icon, _active_data, _active_name):
        row = layout.row(align=True)
        row.active = item.enabled
        row.prop(item, "enabled", text="")
        row.prop(item, "name", text="", emboss=False)
        seen = row.row(align=True)
        seen.alignment = "RIGHT"
        if item.frames:
            seen.label(text=item.frames)
        seen.label(icon="CAMERA_DATA" if item.look == "AHEAD" else "CUBE")


class Shots:
    """The list and what is done with it, wherever the panel is."""

    bl_label = "Grange Shots"

    def draw(self, context):
        layout = self.layout
        if running.current:
            draw_run(layout, context, running.current)
            return
        draw_list(layout, context.scene)
        draw_render(layout, context)


class Shot:
    """The shot that is chosen."""

    bl_label = "Shot"

    @classmethod
    def poll(cls, context):
        return running.current is None and shots.active_shot(context.scene) is not None

    def draw(self, context):
        draw_shot(self.layout, context.scene, shots.active_shot(context.scene))


class GRANGE_PT_output(Shots, bpy.types.Panel):
    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "output"


class GRANGE_PT_output_shot(Shot, bpy.types.Panel):
    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "output"
    bl_parent_id = "GRANGE_PT_output"


class GRANGE_PT_sidebar(Shots, bpy.types.Panel):
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Grange"


class GRANGE_PT_sidebar_shot(Shot, bpy.types.Panel):
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Grange"
    bl_parent_id = "GRANGE_PT_sidebar"


class GRANGE_MT_shots(bpy.types.Menu):
    """More to do with the list."""

    bl_label = "More"

    def draw(self, _context):
        layout = self.layout
        layout.operator("grange.shot_duplicate", icon="DUPLICATE")
        layout.separator()
        layout.operator("grange.shots_from_cameras", icon="CAMERA_DATA")
        layout.operator("grange.shots_skybox", icon="CUBE")
        layout.operator("grange.shots_from_markers", icon="MARKER_HLT")
        layout.separator()
        layout.operator("grange.shots_enable", text="Tick All", icon="CHECKBOX_HLT").enabled = True
        tick = layout.operator("grange.shots_enable", text="Tick None", icon="CHECKBOX_DEHLT")
        tick.enabled = False
        layout.operator("grange.shot_remove", text="Remove All", icon="TRASH").all = True


def draw_list(layout, scene):
    settings = scene.grange
    if not settings.shots:
        column = layout.column(align=True)
        column.operator("grange.shots_from_cameras", icon="CAMERA_DATA")
        column.operator("grange.shots_skybox", icon="CUBE")
        column.operator("grange.shots_from_markers", icon="MARKER_HLT")
        column.operator("grange.shot_add", icon="ADD")
        return
    row = layout.row()
    row.template_list(
        "GRANGE_UL_shots", "", settings, "shots", settings, "active", rows=ROWS, sort_lock=True
    )
    side = row.column(align=True)
    side.operator("grange.shot_add", text="", icon="ADD")
    side.operator("grange.shot_remove", text="", icon="REMOVE").all = False
    side.separator()
    side.menu("GRANGE_MT_shots", text="", icon="DOWNARROW_HLT")
    side.separator()
    side.operator("grange.shot_move", text="", icon="TRIA_UP").direction = "UP"
    side.operator("grange.shot_move", text="", icon="TRIA_DOWN").direction = "DOWN"


def draw_render(layout, context):
    scene = context.scene
    if not scene.grange.shots:
        return
    try:
        planned, problem = plan(tuple(shots.wanted(scene)))
    except ValueError as error:
        planned, problem = 0, str(error)
    if problem:
        draw_text(layout, context, problem, "ERROR")
    row = layout.row(align=True)
    row.scale_y = 1.4
    text = f"Render {running.count(planned, 'Picture')}" if planned else "Render Shots"
    whole = row.row(align=True)
    whole.enabled = not problem
    whole.operator("grange.render_shots", text=text, icon="RENDER_STILL").only_active = False
    row.operator("grange.render_shots", text="", icon="RESTRICT_RENDER_OFF").only_active = True
    row.operator("grange.open_folder", text="", icon="FILE_FOLDER")
    if running.last and not problem:
        icon = "CHECKMARK" if running.last.went_well else "INFO"
        draw_text(layout, context, running.last.said, icon)


@lru_cache(maxsize=4)
def plan(wanted):
    """How many pictures these shots are, or what is wrong with them. Kept, because a panel is drawn
    whenever the mouse moves over it."""
    try:
        return len(pictures.plan(wanted)), None
    except ValueError as error:
        return 0, str(error)


@lru_cache(maxsize=4)
def first_picture(shot):
    """Of the shot that is chosen."""
    return pictures.of_shot(shot)[0]


def draw_shot(layout, scene, shot):
    layout.use_property_split = True
    layout.use_property_decorate = False
    target = shot.scene or scene
    column = layout.column()
    column.prop(shot, "camera")
    if shot.camera:
        column.prop(shot, "look")
    column.prop(shot, "frames")
    column.prop(shot, "output")
    try:
        first = first_picture(shots.plain(scene, shot))
        draw_hint(layout, os.path.relpath(first.path, first.shot.folder))
    except ValueError:
        pass  # The list says so.
    row = layout.row(heading="Resolution")
    row.prop(shot, "use_resolution", text="")
    size = row.column(align=True)
    size.active = shot.use_resolution
    size.prop(shot, "resolution_x", text="")
    size.prop(shot, "resolution_y", text="")
    row = layout.row(heading="Samples")
    row.prop(shot, "use_samples", text="")
    samples = row.row()
    samples.active = shot.use_samples
    samples.prop(shot, "samples", text="")
    column = layout.column()
    column.prop(shot, "scene")
    column.prop_search(shot, "view_layer", target, "view_layers", icon="RENDERLAYERS")


def draw_hint(layout, name):
    row = layout.row()
    row.active = False
    row.alignment = "RIGHT"
    row.label(text=name, icon="FILE_IMAGE")


def draw_run(layout, context, run):
    first, *others = run.words()
    column = layout.column(align=True)
    draw_text(column, context, first, "RENDER_STILL")
    for words in others:
        draw_text(column, context, words, "BLANK1")
    draw_run_bar(layout, context)
    # Blender's own bar has the button that cancels what is being rendered.
    layout.template_running_jobs()
    layout.operator("grange.stop_after_picture", icon="PAUSE")
    draw_text(layout, context, "Esc cancels; what is finished stays", "INFO")


def draw_run_bar(layout, context):
    draw_bar(layout, context, running.fraction())


def draw_bar(layout, context, fraction, text="", number=0):
    """How far something is, 0 to 1; each bar of a panel has a number of its own."""
    if hasattr(layout, "progress"):
        percent = f"{100 * fraction:.0f} %"
        layout.progress(factor=fraction, text=f"{text}  ·  {percent}" if text else percent)
        return
    # Before 4.0 only properties look like bars.
    bars.fractions[number] = fraction
    layout.prop(
        context.window_manager.grange, f"bar_{number}", text=text or "Progress", slider=True
    )


def draw_text(layout, context, text, icon):
    """A sentence on as many lines as it needs."""
    letters = max(
        20, int(context.region.width / context.preferences.system.ui_scale) // LETTER_WIDTH
    )
    column = layout.column(align=True)
    for at, line in enumerate(wrapped(text, letters - 4)):
        column.label(text=line, icon="BLANK1" if at else icon)


def wrapped(text, letters):
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > letters:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines


def draw_header(header, context):
    """In the status bar, and over the picture."""
    if running.current:
        row = header.layout.row()
        row.ui_units_x = 8
        draw_run_bar(row, context)
        if context.area and context.area.type == "IMAGE_EDITOR":
            header.layout.label(text=running.current.line())


HEADERS = ("STATUSBAR_HT_header", "IMAGE_HT_header")

CLASSES = (
    GRANGE_UL_shots,
    GRANGE_MT_shots,
    GRANGE_PT_output,
    GRANGE_PT_output_shot,
    GRANGE_PT_sidebar,
    GRANGE_PT_sidebar_shot,
)


def register():
    for name in HEADERS:
        getattr(bpy.types, name).append(draw_header)


def unregister():
    for name in HEADERS:
        getattr(bpy.types, name).remove(draw_header)
