"""The add-on from its source, a small scene, and what has to be as it was."""

import importlib
import importlib.util
import os
import sys
import time
import traceback

import bpy

HERE = os.path.dirname(os.path.abspath(__file__))
ADDON = os.path.join(HERE, "../../../addon")
CLIENT = os.path.join(HERE, "../../../python/src")
NAME = "grange_addon"
PATIENCE_S = 180
TICK_S = 0.02

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


def play(scenario, ticks):
    """Goes through a scenario while the window is alive: a generator that yields what it waits for.
    `ticks` gets the times at which a timer of Blender's was called."""
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
