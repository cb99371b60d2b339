# SPDX-License-Identifier: GPL-3.0-or-later
"""The operators that render the list of shots: blocking for scripts, or while the window lives."""

# pyright: reportInvalidTypeForm=false

import os
import subprocess
import sys
import time

import bpy
from bpy.props import BoolProperty

from . import running, shots
from .plan import pictures

TICK_S = 0.1
SHOW_EVERY_S = 0.5
"""Drawing costs more than a tick."""


class GRANGE_OT_render_shots(bpy.types.Operator):
    """Shots one after the other, each to its own file."""

    bl_idname = "grange.render_shots"
    bl_label = "Render Shots"
    bl_description = (
        "Render the shots one after the other, each to its own file. "
        "Esc cancels the running picture and the list; what is finished stays"
    )

    only_active: BoolProperty(
        name="Selected Shot Only", description="Render the shot that is chosen in the list alone"
    )

    _run: running.Run | None = None
    _shown_at = 0.0

    @classmethod
    def poll(cls, context):
        return context.scene is not None

    def execute(self, context):
        """Blocks until everything is written. An error stops it and is raised in scripts."""
        run = self._planned(context)
        if run is None:
            return {"CANCELLED"}
        manager = context.window_manager
        manager.progress_begin(0, 1)
        run.begin()
        try:
            run.render_all(manager.progress_update)
        finally:
            run.end(False, f"stopped: {run.written()}")
            manager.progress_end()
        if run.went_well:
            self.report({"INFO"}, sentence(run.said))
            return {"FINISHED"}
        self.report({"ERROR"}, sentence(run.said))
        return {"CANCELLED"}

    def invoke(self, context, _event):
        """Returns at once; a timer does the rest."""
        if bpy.app.background:
            return self.execute(context)
        run = self._planned(context)
        if run is None:
            return {"CANCELLED"}
        self._run = run
        run.begin()
        manager = context.window_manager
        timer = manager.event_timer_add(TICK_S, window=context.window)
        run.at_end = lambda: clear(timer)
        manager.modal_handler_add(self)
        redraw(context, run.line())
        return {"RUNNING_MODAL"}

    def modal(self, context, event):
        run = self._run
        if run is None or run.is_over:
            return self._over()
        if event.type == "ESC" and event.value == "PRESS" and not running.is_rendering():
            # During a render Blender takes the key for itself, and the run hears of that.
            run.end(False, f"canceled: {run.written()}")
        elif event.type == "TIMER":
            run.tick()
            if time.monotonic() - self._shown_at >= SHOW_EVERY_S:
                redraw(context, run.line())
                self._shown_at = time.monotonic()
        else:
            return {"PASS_THROUGH"}
        return self._over() if run.is_over else {"PASS_THROUGH"}

    def cancel(self, _context):
        """Blender ends it: the window closes, or another file comes."""
        if self._run is not None:
            self._run.end(False, f"canceled: {self._run.written()}")
            self._over()

    def _planned(self, context):
        """A run that has not begun, or None after the user was told why there is none."""
        if running.current or running.is_rendering():
            busy = "The shots are" if running.current else "Another picture is"
            self.report({"WARNING"}, f"{busy} being rendered: wait for the end, or press Esc first")
            return None
        try:
            wanted = shots.wanted(context.scene, only_active=self.only_active)
            return running.Run(pictures.plan(wanted))
        except ValueError as error:
            self.report({"ERROR"}, sentence(str(error)))
            return None

    def _over(self):
        run, self._run = self._run, None
        if run is None or run.went_well is None:
            return {"CANCELLED"}
        canceled = run.said.startswith(("canceled", "stopped", "another file"))
        kind = "INFO" if run.went_well or canceled else "ERROR"
        self.report({kind}, sentence(run.said))
        return {"FINISHED"} if run.went_well else {"CANCELLED"}


class GRANGE_OT_stop_after_picture(bpy.types.Operator):
    """Finish the picture that is being rendered, and stop there"""

    bl_idname = "grange.stop_after_picture"
    bl_label = "Stop After This Picture"

    @classmethod
    def poll(cls, _context):
        return running.current is not None

    def execute(self, _context):
        if running.current:
            running.current.wants_to_stop = True
        return {"FINISHED"}


class GRANGE_OT_open_folder(bpy.types.Operator):
    """Show the folder where the pictures go"""

    bl_idname = "grange.open_folder"
    bl_label = "Open Folder"

    def execute(self, context):
        folder = shots.folder(context.scene)
        if not os.path.isdir(folder):
            self.report({"WARNING"}, f"{folder} is not there yet: render something first")
            return {"CANCELLED"}
        if not bpy.app.background:
            show_folder(folder)
        return {"FINISHED"}


def show_folder(folder):
    if sys.platform == "win32":
        os.startfile(folder)
    else:
        opener = "open" if sys.platform == "darwin" else "xdg-open"
        subprocess.Popen([opener, folder])


def sentence(text):
    return text[:1].upper() + text[1:]


def clear(timer):
    """However a run ends: no timer stays, and nothing in the status bar."""
    bpy.context.window_manager.event_timer_remove(timer)
    redraw(bpy.context, None)


def redraw(context, text):
    """Shows where the run is in the status bar, or nothing, and in what shows it besides. Never the
    view itself, which may take long to draw."""
    for window in context.window_manager.windows:
        window.workspace.status_text_set(text)
        for area in window.screen.areas:
            for region in area.regions:
                if region.type in SHOWS_A_RUN.get(area.type, ()):
                    region.tag_redraw()


SHOWS_A_RUN = {"PROPERTIES": {"WINDOW"}, "VIEW_3D": {"UI"}, "IMAGE_EDITOR": {"HEADER"}}
"""Regions of editors."""

CLASSES = (GRANGE_OT_render_shots, GRANGE_OT_stop_after_picture, GRANGE_OT_open_folder)
