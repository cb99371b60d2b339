# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel of the farm: what it would render, what is wrong with that, and how its jobs are.

Drawing asks nobody and looks at no disk: all it shows is what `live` knows.
"""

from __future__ import annotations

import bpy

from .. import running
from ..panels import draw_bar, draw_text
from ..plan import hosts
from ..plan.progress import clock
from . import live, packing, showing
from .desk import Followed
from .told import JobNews, NotSubmitted, TaskNews

JOBS_MAX = 5
TASKS_MAX = 4
MISSING_MAX = 5
PICTURE_SCALE = 7.0

ICONS = {
    "queued": "TIME",
    "active": "RENDER_ANIMATION",
    "paused": "PAUSE",
    "completed": "CHECKMARK",
    "canceled": "X",
    "failed": "ERROR",
}


class Farm:
    """What the farm renders of this scene, and has rendered."""

    bl_label = "Grange Farm"

    def draw(self, context):
        layout = self.layout
        draw_farm(layout, context)
        if live.link is not None:
            draw_submit(layout, context)
            jobs = live.jobs()
            for number, job in enumerate(jobs[:JOBS_MAX]):
                draw_job(layout, context, job, 1 + number * (1 + TASKS_MAX))
            if len(jobs) > JOBS_MAX:
                layout.label(text=f"{running.count(len(jobs) - JOBS_MAX, 'older job')} not shown")


class GRANGE_PT_output_farm(Farm, bpy.types.Panel):
    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "output"


class GRANGE_PT_sidebar_farm(Farm, bpy.types.Panel):
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Grange"


def draw_farm(layout, context):
    """Which farm it is, or why there is none, with the button that mends it."""
    met = live.desk.met
    wrong = list(packing.of_farm())
    if met is not None and not wrong:
        row = layout.row(align=True)
        hosts = running.count(met.hosts, "host")
        state = hosts if live.desk.is_live() else "not live: the farm does not answer"
        icon = "LINKED" if live.desk.is_live() else "UNLINKED"
        who = f"{met.more.who} on " if met.more else ""
        row.label(text=f"{who}{met.farm}  ·  {state}", icon=icon)
        row.operator("grange.open_dashboard", text="", icon="URL")
        row.operator("grange.sign_out", text="", icon="PANEL_CLOSE")
    for problem in wrong:
        draw_problem(layout, context, problem)
    if wrong and live.link is not None:
        layout.operator("grange.sign_out", text="Sign Out", icon="PANEL_CLOSE")


def draw_problem(layout, context, problem):
    column = layout.column(align=True)
    icon = "INFO" if not problem.stops or problem.operator is None else "ERROR"
    draw_text(column, context, problem.said[:1].upper() + problem.said[1:], icon)
    if problem.operator:
        column.operator(problem.operator, text=problem.label, icon=problem.icon)


def draw_submit(layout, context):
    scene, desk = context.scene, live.desk
    what = scene.grange.what
    row = layout.row()
    row.enabled = not desk.sending
    row.prop(scene.grange, "what", expand=True)
    row = layout.row()
    row.enabled = not desk.sending
    row.prop(scene.grange, "tags")
    tags = hosts.tags(scene.grange.tags)
    wrong = list(packing.of_file(scene, what, tags)) if desk.met is not None else []
    for problem in wrong:
        draw_problem(layout, context, problem)
    stopped = any(problem.stops for problem in (*packing.of_farm(), *wrong))
    if desk.sending:
        draw_sending(layout, context)
    else:
        row = layout.row()
        row.scale_y = 1.4
        row.enabled = not stopped and desk.met is not None
        submit = row.operator("grange.submit", text=label(scene, what), icon="RENDER_ANIMATION")
        submit.what, submit.allow_missing = what, False
    if desk.refused is not None:
        draw_refused(layout, context, desk.refused, what)
    for warning in desk.warnings[:MISSING_MAX]:
        draw_text(layout, context, warning, "INFO")


def label(scene, what):
    """Of the button that sends it."""
    try:
        return f"Render {running.count(packing.count(scene, what), 'Picture')}"
    except ValueError:
        return "Render"


def draw_sending(layout, context):
    for sending in live.desk.sending.values():
        if sending is None or not sending.total:
            layout.label(text="Sending the scene …", icon="EXPORT")
        else:
            done, total = sending.done / 1e6, sending.total / 1e6
            text = f"Sending {done:.1f} of {total:.1f} MB"
            draw_bar(layout, context, sending.done / sending.total, text)


def draw_refused(layout, context, refused: NotSubmitted, what):
    column = layout.box().column(align=True)
    draw_text(column, context, refused.said[:1].upper() + refused.said[1:], "ERROR")
    for said in refused.missing[:MISSING_MAX]:
        draw_text(column, context, said, "BLANK1")
    if len(refused.missing) > MISSING_MAX:
        column.label(text=f"… and {len(refused.missing) - MISSING_MAX} more", icon="BLANK1")
    if refused.missing:
        column.operator("file.find_missing_files", icon="VIEWZOOM")
        submit = column.operator("grange.submit", text="Render Without Them", icon="ERROR")
        submit.what, submit.allow_missing = what, True


def draw_job(layout, context, job: Followed, bar: int):
    """A job; its bars are numbered from `bar` on."""
    box = layout.box().column()
    news = job.news
    box.label(text=job.name, icon=ICONS.get(news.state if news else "", "TIME"))
    if news is None:
        box.label(text="asking the farm …", icon="BLANK1")
        return
    draw_text(box, context, "  ·  ".join(words(job, news)), "BLANK1")
    draw_bar(box, context, news.fraction, f"{news.done} of {news.total}", bar)
    draw_buttons(box.row(align=True), job)
    if news.reason:
        draw_text(box, context, news.reason, "INFO")
    if job.problem:
        draw_text(box, context, job.problem, "ERROR")
        button(box, "grange.job_fetch", job, "FILE_REFRESH", text="Fetch Again")
    tasks = sorted(job.running.values(), key=lambda task: task.key)[:TASKS_MAX]
    for number, task in enumerate(tasks, bar + 1):
        draw_task(box, context, task, number)
    if len(job.running) > TASKS_MAX:
        box.label(text=f"… and {len(job.running) - TASKS_MAX} more at work", icon="BLANK1")
    draw_picture(box, job)


def words(job: Followed, news: JobNews):
    """How a job is, in a few words each."""
    said = [news.state]
    if job.hosts:
        said.append(running.count(len(job.hosts), "host"))
    if news.left_s is not None and not news.is_over:
        said.append(f"{clock(news.left_s)} left")
    if job.pictures:
        said.append(f"{running.count(len(job.pictures), 'picture')} here")
    return said


def draw_buttons(row, job: Followed):
    state = job.news.state if job.news else ""
    if state in {"queued", "active"}:
        button(row, "grange.job_pause", job, "PAUSE")
    if state == "paused":
        button(row, "grange.job_resume", job, "PLAY")
    if state in {"queued", "active", "paused"}:
        button(row, "grange.job_priority", job, "SORT_ASC")
        button(row, "grange.job_cancel", job, "X")
    if state in {"failed", "canceled"}:
        button(row, "grange.job_retry", job, "FILE_REFRESH")
    button(row, "grange.job_folder", job, "FILE_FOLDER")
    if job.pictures:
        button(row, "grange.job_strips", job, "SEQUENCE")
        button(row, "grange.job_picture", job, "IMAGE_DATA")
    if job.is_over:
        button(row, "grange.job_forget", job, "TRASH")


def button(row, operator, job: Followed, icon, text=""):
    row.operator(operator, text=text, icon=icon).job = job.job


def draw_task(box, context, task: TaskNews, bar: int):
    """A frame on its way, by samples where the engine tells of them."""
    said = f"sample {task.sample} of {task.samples}" if task.samples else task.stage or "next"
    column = box.column(align=True)
    column.label(text=f"{task.label} on {place(task)}", icon="RENDER_STILL")
    draw_bar(column, context, task.fraction, said, bar)


def place(task: TaskNews):
    """Its host, and which device where that has several."""
    devices = next((one.devices for one in live.desk.agents() if one.name == task.agent), ())
    if task.device is None or not task.device < len(devices) > 1:
        return task.agent
    name = devices[task.device]
    number = f" #{task.device}" if devices.count(name) > 1 else ""
    return f"{task.agent}, {name}{number}"


def draw_picture(box, job: Followed):
    icon = showing.icon(job)
    if icon:
        box.template_icon(icon_value=icon, scale=PICTURE_SCALE)


CLASSES = (GRANGE_PT_output_farm, GRANGE_PT_sidebar_farm)
