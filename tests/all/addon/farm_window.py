"""The add-on and a real farm in a real window: a job is sent, watched and shown. Arguments: an
empty folder and the farm's connect string; a third is a folder for pictures of the window."""

import os
import pathlib
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import bpy  # noqa: E402
import stage  # noqa: E402

addon = stage.load()
live = addon.live
FOLDER, CONNECT = sys.argv[sys.argv.index("--") + 1 :][:2]
SHOTS = sys.argv[sys.argv.index("--") + 3 :]
FRAMES = 12
ticks, own_ms = [], []


def window():
    return bpy.context.window_manager.windows[0]


def area(kind):
    return next(one for one in window().screen.areas if one.type == kind)


def look(name):
    """Takes a picture of the window, where anybody wants it."""
    if SHOTS:
        with bpy.context.temp_override(window=window()):
            bpy.ops.screen.screenshot(filepath=os.path.join(SHOTS[0], f"{name}.png"))


def measured_tick():
    began = time.perf_counter()
    try:
        return tick()
    finally:
        own_ms.append((time.perf_counter() - began) * 1000)


tick, live.tick = live.tick, measured_tick


def scene_of_a_turning_monkey():
    scene = bpy.context.scene
    stage.small(scene, FOLDER, samples=60)
    scene.render.resolution_x, scene.render.resolution_y = 320, 180
    scene.render.filepath = os.path.join(FOLDER, "turn_")
    scene.frame_end = FRAMES
    bpy.data.objects.remove(bpy.data.objects["Cube"])
    bpy.ops.mesh.primitive_monkey_add(size=3)
    monkey = bpy.context.object
    for frame, turn in ((1, 0), (FRAMES, 3)):
        monkey.rotation_euler.z = turn
        monkey.keyframe_insert("rotation_euler", frame=frame)


def panels_in_sight():
    """The output's properties take the right half, and the timeline's place is for pictures."""
    area("DOPESHEET_EDITOR").type = "IMAGE_EDITOR"
    properties = area("PROPERTIES")
    properties.spaces.active.context = "OUTPUT"
    panels = [getattr(bpy.types, name) for name in dir(bpy.types)]
    for panel in panels:
        context = getattr(panel, "bl_context", None)
        if context == "output" and not panel.__name__.startswith("GRANGE"):
            bpy.utils.unregister_class(panel)


def sends_and_watches():
    scene_of_a_turning_monkey()
    panels_in_sight()
    yield wait_s(0.5)
    look("farm-sign-in")
    with bpy.context.temp_override(window=window()):
        assert bpy.ops.grange.sign_in(connect=CONNECT) == {"FINISHED"}
    assert live.desk.met is None, "the window waits for nothing"
    yield lambda: live.desk.met
    before, dirty = stage.settings(), bpy.data.is_dirty
    yield wait_s(1)
    look("farm-ready")
    ticks.clear()
    with bpy.context.temp_override(window=window(), area=area("PROPERTIES")):
        assert bpy.ops.grange.submit("INVOKE_DEFAULT", what="ANIMATION") == {"FINISHED"}
        assert not bpy.ops.grange.submit.poll(), "one after the other"
    assert live.desk.sending and not live.jobs(), "the window waits for nothing"
    yield lambda: live.jobs()
    (job,) = live.jobs()
    yield lambda: job.running and any(task.samples for task in job.running.values())
    yield lambda: job.pictures
    with bpy.context.temp_override(window=window()):
        assert bpy.ops.grange.job_picture(job=job.job) == {"FINISHED"}
    image = area("IMAGE_EDITOR").spaces.active.image
    first = image.filepath
    yield lambda: len(job.pictures) >= FRAMES // 2
    yield lambda: job.running
    look("farm-rendering")
    yield lambda: job.is_done
    assert job.is_whole and job.news.state == "completed", job
    assert sorted(os.listdir(FOLDER)) == [f"turn_{at:04}.png" for at in range(1, FRAMES + 1)]
    yield lambda: image.filepath == job.last != first
    stage.same(before, stage.settings())
    assert bpy.data.is_dirty == dirty and not bpy.data.filepath
    recent = bpy.utils.user_resource("CONFIG", path="recent-files.txt")
    if os.path.exists(recent):
        assert "copy.blend" not in pathlib.Path(recent).read_text()
    yield wait_s(1)
    look("farm-done")
    assert len(ticks) > 20, ticks
    own_ms.sort()
    print(f"{len(own_ms)} ticks of the farm, the longest {own_ms[-1]:.1f} ms", flush=True)
    yield from still_tells_when_timers_may_not_write(job)
    yield stage.pressed(addon.unregister)
    yield stage.pressed(addon.register)


def still_tells_when_timers_may_not_write(job):
    """The image stays as it is, and the rest goes on."""
    image = area("IMAGE_EDITOR").spaces.active.image
    shown = image.filepath
    yield from stage.stick()
    job.last = os.path.join(FOLDER, "turn_0001.png")
    assert shown != job.last
    at = len(own_ms)
    yield wait_s(2 * live.showing.EVERY_S)
    assert image.filepath == shown, "this Blender has no such race"
    assert len(own_ms) > at + 2, "the farm is not looked at any more"
    yield stage.pressed(lambda: bpy.ops.grange.job_picture(job=job.job))
    assert image.filepath == job.last, "what a person asks for is shown"


def wait_s(seconds):
    until = time.monotonic() + seconds
    return lambda: time.monotonic() > until


addon.register()
bpy.context.preferences.view.show_splash = False
stage.play(sends_and_watches(), ticks)
