# SPDX-License-Identifier: GPL-3.0-or-later
"""The operators for a farm. From a script or without a window `grange.submit` and `grange.sign_in`
return when it is done; from a button at once."""

# pyright: reportInvalidTypeForm=false

from __future__ import annotations

import os
import time

import bpy
from bpy.props import BoolProperty, EnumProperty, IntProperty, StringProperty

from .. import preferences, shots
from ..plan import hosts
from ..rendering import sentence, show_folder
from . import live, packing, showing, strips

STEP_S = 0.05
SCHEME = "grange+https://"


class GRANGE_OT_sign_in(bpy.types.Operator):
    """Use the farm of a connect string, now and from now on"""

    bl_idname = "grange.sign_in"
    bl_label = "Sign In to a Farm"

    connect: StringProperty(
        name="Connect String",
        description="The line that `grange token create --api --role submitter` prints",
        subtype="PASSWORD",
        options={"SKIP_SAVE"},
    )

    def invoke(self, context, _event):
        clipboard = context.window_manager.clipboard.strip()
        if not self.connect and clipboard.startswith(SCHEME):
            self.connect = clipboard
        return context.window_manager.invoke_props_dialog(self, width=420)

    def draw(self, _context):
        self.layout.label(text="Paste what `grange token create --api` prints")
        self.layout.prop(self, "connect", text="")

    def execute(self, _context):
        if not preferences.is_online():
            self.report({"ERROR"}, "Blender is set to stay offline: allow online access first")
            return {"CANCELLED"}
        connect = self.connect.strip()
        try:
            live.check(connect)
            preferences.keep_connect_string(connect)
        except (ValueError, OSError) as error:
            self.report({"ERROR"}, sentence(str(error)))
            return {"CANCELLED"}
        live.disconnect()
        live.connect()
        if bpy.app.background:
            return self._wait()
        return {"FINISHED"}

    def _wait(self):
        until(lambda: live.desk.met or live.desk.lost)
        if live.desk.lost:
            self.report({"ERROR"}, sentence(live.desk.lost.said))
            return {"CANCELLED"}
        return {"FINISHED"}


class GRANGE_OT_sign_out(bpy.types.Operator):
    """Forget the farm. Jobs there go on"""

    bl_idname = "grange.sign_out"
    bl_label = "Sign Out"

    @classmethod
    def poll(cls, _context):
        return live.link is not None or live.problem is not None

    def execute(self, _context):
        preferences.keep_connect_string(None)
        live.disconnect()
        return {"FINISHED"}


class GRANGE_OT_try_again(bpy.types.Operator):
    """Connect to the farm anew, and look at what it has"""

    bl_idname = "grange.try_again"
    bl_label = "Try Again"

    def execute(self, _context):
        live.disconnect()
        live.connect()
        return {"FINISHED"}


class GRANGE_OT_go_online(bpy.types.Operator):
    """Let add-ons use the network, as Preferences > System does"""

    bl_idname = "grange.go_online"
    bl_label = "Allow Online Access"

    def execute(self, context):
        context.preferences.system.use_online_access = True
        if not preferences.is_online():
            self.report({"ERROR"}, "Blender was started with --offline-mode: start it without")
            return {"CANCELLED"}
        live.connect()
        return {"FINISHED"}


class GRANGE_OT_use_camera(bpy.types.Operator):
    """Render through the selected camera, or through the first one of the scene"""

    bl_idname = "grange.use_camera"
    bl_label = "Use a Camera of the Scene"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context):
        scene, active = context.scene, context.view_layer.objects.active
        cameras = sorted(one.name for one in scene.objects if one.type == "CAMERA")
        if not cameras:
            self.report({"ERROR"}, f"Scene `{scene.name}` has no camera: add one")
            return {"CANCELLED"}
        chosen = active if active and active.type == "CAMERA" else scene.objects[cameras[0]]
        scene.camera = chosen
        return {"FINISHED"}


class GRANGE_OT_submit(bpy.types.Operator):
    """Render on the farm"""

    bl_idname = "grange.submit"
    bl_label = "Render on the Farm"
    bl_description = (
        "Send the scene as it is now, also what is not saved, to the farm and render it there. "
        "Pictures come to the scene's output path; Blender may be closed meanwhile"
    )

    what: EnumProperty(name="What", items=shots.WHAT, options={"SKIP_SAVE"})
    allow_missing: BoolProperty(
        name="Without Missing Files",
        description="Render although files are missing that the scene names",
        options={"SKIP_SAVE"},
    )
    priority: IntProperty(
        name="Priority",
        description="0 is last, 100 is first; -1 is that of the preferences",
        default=-1,
        min=-1,
        max=100,
        options={"SKIP_SAVE"},
    )
    tags: StringProperty(
        name="Hosts With",
        description="Tags that a host must have, with commas between them; those of the scene "
        "unless given",
        options={"SKIP_SAVE"},
    )
    wait: BoolProperty(
        name="Wait",
        description="Return when all pictures are here (from scripts)",
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context):
        return context.scene is not None and not live.desk.sending

    def invoke(self, context, _event):
        """Returns at once; the panel shows the rest."""
        if not self.properties.is_property_set("what"):
            self.what = context.scene.grange.what
        if bpy.app.background:
            return self.execute(context)
        return {"FINISHED"} if self._begin(context) else {"CANCELLED"}

    def execute(self, context):
        """Returns when the farm has the job, or with `wait` when all of its pictures are here."""
        if not self.properties.is_property_set("what"):
            self.what = context.scene.grange.what
        live.connect()
        until(lambda: live.link is None or live.desk.met or live.desk.lost)
        order = self._begin(context)
        if order is None:
            return {"CANCELLED"}
        until(lambda: order.number not in live.desk.sending)
        refused = live.desk.refused
        if refused is not None:
            self.report({"ERROR"}, "\n".join((sentence(refused.said), *refused.missing)))
            return {"CANCELLED"}
        return self._wait(live.jobs()[0]) if self.wait else {"FINISHED"}

    def _begin(self, context):
        """The order, or None after the user was told why there is none."""
        priority = preferences.priority() if self.priority < 0 else self.priority
        given = self.properties.is_property_set("tags")
        try:
            order = packing.order(
                context,
                self.what,
                priority=priority,
                tags=hosts.tags(self.tags if given else context.scene.grange.tags),
                allow_missing=self.allow_missing,
            )
        except (ValueError, OSError, RuntimeError) as error:
            self.report({"ERROR"}, sentence(str(error)))
            return None
        live.submit(order)
        return order

    def _wait(self, job):
        until(lambda: job.is_done or job.job not in live.desk.jobs)
        state = job.news.state if job.news else "gone"
        if state == "completed" and job.is_whole:
            return {"FINISHED"}
        reason = job.problem or (job.news and job.news.reason) or "the farm's log says why"
        self.report({"ERROR"}, f"Job {job.job} is {state}: {reason}")
        return {"CANCELLED"}


class OfJob:
    """Operators for one of the jobs that are known."""

    job: IntProperty(name="Job", options={"SKIP_SAVE"})

    def found(self):
        """The job, or None after the user was told that there is none."""
        job = live.desk.jobs.get(self.job)
        if job is None:
            self.report({"WARNING"}, f"Job {self.job} is not among those of this Blender")
        return job


class Asking(OfJob):
    """Those that ask the farm for something, which it tells of when it has happened."""

    asks = ""

    def execute(self, _context):
        if self.found() is None or live.link is None:
            return {"CANCELLED"}
        live.link.ask(self.job, self.asks)
        return {"FINISHED"}


class GRANGE_OT_job_cancel(Asking, bpy.types.Operator):
    """Stop the job for good. Pictures that are finished stay"""

    bl_idname = "grange.job_cancel"
    bl_label = "Cancel Job"
    asks = "cancel"

    def invoke(self, context, event):
        return context.window_manager.invoke_confirm(self, event)


class GRANGE_OT_job_pause(Asking, bpy.types.Operator):
    """Let the job begin no more pictures; those that are being rendered are finished"""

    bl_idname = "grange.job_pause"
    bl_label = "Pause Job"
    asks = "pause"


class GRANGE_OT_job_resume(Asking, bpy.types.Operator):
    """Let the job go on"""

    bl_idname = "grange.job_resume"
    bl_label = "Resume Job"
    asks = "resume"


class GRANGE_OT_job_retry(Asking, bpy.types.Operator):
    """Render what has failed or was canceled once more"""

    bl_idname = "grange.job_retry"
    bl_label = "Retry Job"
    asks = "retry"


class GRANGE_OT_job_priority(OfJob, bpy.types.Operator):
    """How urgent the job is"""

    bl_idname = "grange.job_priority"
    bl_label = "Priority of the Job"

    priority: IntProperty(
        name="Priority",
        description="0 is last, 100 is first",
        default=preferences.PRIORITY,
        min=0,
        max=100,
        options={"SKIP_SAVE"},
    )

    def invoke(self, context, _event):
        job = self.found()
        if job is None:
            return {"CANCELLED"}
        if job.news is not None:
            self.priority = job.news.priority
        return context.window_manager.invoke_props_dialog(self)

    def draw(self, _context):
        self.layout.prop(self, "priority", slider=True)

    def execute(self, _context):
        if self.found() is None or live.link is None:
            return {"CANCELLED"}
        live.link.ask(self.job, "priority", self.priority)
        return {"FINISHED"}


class GRANGE_OT_job_fetch(OfJob, bpy.types.Operator):
    """Fetch the pictures that are not in the folder"""

    bl_idname = "grange.job_fetch"
    bl_label = "Fetch Again"

    def execute(self, _context):
        job = self.found()
        if job is None:
            return {"CANCELLED"}
        live.fetch_again(job)
        return {"FINISHED"}


class GRANGE_OT_job_forget(OfJob, bpy.types.Operator):
    """Take the job off this list. The farm and the folder keep what they have"""

    bl_idname = "grange.job_forget"
    bl_label = "Remove from the List"

    def execute(self, _context):
        if self.found() is None:
            return {"CANCELLED"}
        live.forget(self.job)
        return {"FINISHED"}


class GRANGE_OT_job_folder(OfJob, bpy.types.Operator):
    """Show the folder where the job's pictures come"""

    bl_idname = "grange.job_folder"
    bl_label = "Open Folder"

    def execute(self, _context):
        job = self.found()
        if job is None:
            return {"CANCELLED"}
        if not os.path.isdir(job.folder):
            self.report({"WARNING"}, f"{job.folder} is not there yet: no picture has come")
            return {"CANCELLED"}
        if not bpy.app.background:
            show_folder(job.folder)
        return {"FINISHED"}


class GRANGE_OT_job_picture(OfJob, bpy.types.Operator):
    """Show the latest picture in an Image Editor, and those that come after it"""

    bl_idname = "grange.job_picture"
    bl_label = "Show the Latest Picture"

    def execute(self, context):
        job = self.found()
        image = job and showing.image(job)
        if image is None:
            self.report({"WARNING"}, "No picture of this job is here yet: wait for the first one")
            return {"CANCELLED"}
        editors = [area for area in areas(context) if area.type == "IMAGE_EDITOR"]
        for area in editors:
            area.spaces.active.image = image
        if not editors:
            self.report({"INFO"}, f"Open an Image Editor and choose `{image.name}`")
        return {"FINISHED"}


class GRANGE_OT_job_strips(OfJob, bpy.types.Operator):
    """Load the job's pictures into the video sequencer of a new scene"""

    bl_idname = "grange.job_strips"
    bl_label = "Load into the Sequencer"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context):
        job = self.found()
        if job is None:
            return {"CANCELLED"}
        try:
            made = strips.load(job, context.scene)
        except (ValueError, RuntimeError) as error:
            self.report({"WARNING"}, sentence(str(error)))
            return {"CANCELLED"}
        self.report({"INFO"}, f"Scene `{made.name}` has them: choose it in a Video Sequencer")
        return {"FINISHED"}


class GRANGE_OT_open_dashboard(bpy.types.Operator):
    """Show the farm in a browser"""

    bl_idname = "grange.open_dashboard"
    bl_label = "Open Dashboard"

    @classmethod
    def poll(cls, _context):
        return live.link is not None

    def execute(self, _context):
        if live.link is None:
            return {"CANCELLED"}
        host, port = live.link.address
        host = f"[{host}]" if ":" in host else host
        bpy.ops.wm.url_open(url=f"https://{host}:{port}/")
        return {"FINISHED"}


def areas(context):
    """Of all windows."""
    return [area for one in context.window_manager.windows for area in one.screen.areas]


def until(is_so):
    """Blocks, for scripts: without a window no timer brings the farm's news."""
    while not is_so():
        if not live.tick():
            time.sleep(STEP_S)


CLASSES = (
    GRANGE_OT_sign_in,
    GRANGE_OT_sign_out,
    GRANGE_OT_try_again,
    GRANGE_OT_go_online,
    GRANGE_OT_use_camera,
    GRANGE_OT_submit,
    GRANGE_OT_job_cancel,
    GRANGE_OT_job_pause,
    GRANGE_OT_job_resume,
    GRANGE_OT_job_retry,
    GRANGE_OT_job_priority,
    GRANGE_OT_job_fetch,
    GRANGE_OT_job_forget,
    GRANGE_OT_job_folder,
    GRANGE_OT_job_picture,
    GRANGE_OT_job_strips,
    GRANGE_OT_open_dashboard,
)
