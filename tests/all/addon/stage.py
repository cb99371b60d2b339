"""The add-on from its source, a small scene, and what has to be as it was."""

import importlib
import importlib.util
import os
import subprocess
import sys
import threading
import time
import traceback

import bpy

HERE = os.path.dirname(os.path.abspath(__file__))
ADDON = os.path.join(HERE, "../../../addon")
CLIENT = os.path.join(HERE, "../../../python/src")
NAME = "grange_addon"
PATIENCE_S = 180
TICK_S = 0.02
KEY = "F7"
"""Blender does nothing with it."""

WATCHED = {
    "scene": ("camera", "frame_current", "frame_subframe", "frame_start", "frame_end"),
    "render": (
        *("filepath", "resolution_x", "resolution_y", "resolution_percentage", "use_single_layer"),
        *("use_file_extension", "pixel_aspect_x", "pixel_aspect_y", "engine"),
    ),
    "cycles": ("samples", "use_layer_samples"),
    "image": ("file_format", "color_mode", "color_depth"),
}


def load():
    """The add-on's package, as Blender would import it."""
    if NAME not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            NAME, os.path.join(ADDON, "__init__.py"), submodule_search_locations=[ADDON]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[NAME] = module
        spec.loader.exec_module(module)
        # The zip has the client for farms in there.
        importlib.import_module(f"{NAME}.vendored").__path__.append(CLIENT)
    return sys.modules[NAME]


def small(scene, folder, samples=1):
    """Pictures that take no time."""
    scene.render.engine = "CYCLES"
    scene.cycles.samples = samples
    scene.cycles.use_adaptive_sampling = False
    scene.cycles.use_denoising = False
    scene.render.resolution_x, scene.render.resolution_y = 32, 18
    scene.render.filepath = os.path.join(folder, "")


def add_camera(name, x=0.0):
    scene = bpy.context.scene
    camera = bpy.data.objects.new(name, bpy.data.cameras.new(name))
    camera.location, camera.rotation_euler = (x, 0, 10), (0, 0, 0)
    scene.collection.objects.link(camera)
    return camera


def settings():
    """Whatever a run could have changed, in every scene."""
    found = {}
    for scene in bpy.data.scenes:
        owners = {
            "scene": scene,
            "render": scene.render,
            "cycles": scene.cycles,
            "image": scene.render.image_settings,
        }
        for kind, names in WATCHED.items():
            for name in names:
                value = getattr(owners[kind], name)
                found[scene.name, kind, name] = getattr(value, "name", value)
        for layer in scene.view_layers:
            found[scene.name, layer.name] = layer.use
        for at, marker in enumerate(scene.timeline_markers):
            found[scene.name, at, marker.name] = marker.camera and marker.camera.name
        found[scene.name, "before"] = scene.grange.before
    found["objects"] = sorted(one.name for one in bpy.data.objects)
    found["cameras"] = sorted(one.name for one in bpy.data.cameras)
    found["file"] = bpy.data.filepath
    view = bpy.context.preferences.view
    found["display"] = view.render_display_type
    return found


def handlers():
    """How many of each there are."""
    every = bpy.app.handlers
    lists = {name: getattr(every, name) for name in dir(every) if not name.startswith("_")}
    return {name: len(one) for name, one in lists.items() if isinstance(one, list)}


def same(before, after):
    changed = {key: (before.get(key), after.get(key)) for key in {*before, *after}}
    changed = {key: pair for key, pair in changed.items() if pair[0] != pair[1]}
    assert not changed, changed


def key(name):
    """Pressed over the main window, where Blender looks for the focus."""
    subprocess.run(["xdotool", "mousemove", "300", "300", "key", name], check=True)


class STAGE_OT_do(bpy.types.Operator):
    """Does what a scenario wants to be done by a person"""

    bl_idname = "stage.do"
    bl_label = "Do"
    work = None

    def execute(self, _context):
        work, type(self).work = type(self).work, None
        work()
        return {"FINISHED"}


def pressed(work):
    """Waits until an operator that a key starts has done it, as people do things. What a timer does
    can be refused for good once something was rendered: see `stick`."""
    outcome = []

    def doing():
        try:
            work()
        except BaseException as error:
            outcome.append(error)
        else:
            outcome.append(None)

    def is_done():
        if outcome and outcome[0]:
            raise outcome[0]
        return bool(outcome)

    STAGE_OT_do.work = doing
    key(KEY)
    return is_done


class Slow(bpy.types.RenderEngine):
    """Renders nothing, and is at it when what was being drawn is drawn."""

    bl_idname = "STAGE_SLOW"
    bl_label = "Slow"
    drawing, rendering, drawn = threading.Event(), threading.Event(), threading.Event()

    def render(self, _depsgraph):
        self.rendering.set()
        self.drawn.wait(PATIENCE_S)


def stick():
    """Brings Blender to where a timer may change nothing, for good, and neither may a console.

    It notes whether Python may write when it calls a panel or an engine, and takes that up again
    afterwards, in all threads together. An engine that begins while a panel is drawn, and ends
    after it, brings back that nothing may be written. Seen in 3.4.1. Operators may all the same, as
    long as something else than Python starts them.
    """

    def before(*_):
        Slow.drawing.wait(PATIENCE_S)

    def draw(_self, _context):
        if not Slow.drawing.is_set():
            Slow.drawing.set()
            Slow.rendering.wait(PATIENCE_S)
        else:
            Slow.drawn.set()

    bpy.utils.register_class(Slow)
    bpy.app.handlers.render_pre.append(before)
    bpy.context.scene.render.engine = Slow.bl_idname
    bpy.ops.render.render("INVOKE_DEFAULT")
    bpy.types.VIEW3D_HT_header.append(draw)
    for area in bpy.context.window_manager.windows[0].screen.areas:
        area.tag_redraw()
    yield lambda: Slow.drawn.is_set() and not bpy.app.is_job_running("RENDER")
    bpy.types.VIEW3D_HT_header.remove(draw)
    bpy.app.handlers.render_pre.remove(before)
    assert is_stuck(), "this Blender has no such race"


def is_stuck():
    """Whether a timer may change nothing."""
    scene = bpy.context.scene
    try:
        scene.frame_step = scene.frame_step
    except AttributeError:
        return True
    return False


def play(scenario, ticks):
    """Goes through a scenario while the window is alive: a generator that yields what it waits for.
    `ticks` gets the times at which a timer of Blender's was called."""
    bpy.utils.register_class(STAGE_OT_do)
    keymaps = bpy.context.window_manager.keyconfigs.addon.keymaps
    keymaps.new(name="Window").keymap_items.new(STAGE_OT_do.bl_idname, KEY, "PRESS")
    waits, since = None, time.monotonic()
    begins = since + 2

    def step():
        nonlocal waits, since
        now = time.monotonic()
        ticks.append(now)
        if now < begins:
            return TICK_S
        try:
            if waits is None or waits():
                waits, since = next(scenario), now
            assert now - since < PATIENCE_S, f"waited for {waits}"
        except StopIteration:
            print("all is well")
            finish(True)
        except BaseException:
            traceback.print_exc()
            finish(False)
        return TICK_S

    bpy.app.timers.register(step, persistent=True)


def finish(well):
    """The bpy module can crash or hang in an orderly exit, and a window need not close."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0 if well else 1)
