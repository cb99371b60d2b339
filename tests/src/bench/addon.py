"""How long the add-on holds up Blender's window while a job of 1,000 pictures comes in. Arguments:
the program `grange` and an empty folder. The last line is an object of name → number."""

import importlib
import itertools
import json
import os
import sys
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../../all/addon"))

import bpy  # noqa: E402
import stage  # noqa: E402

PROGRAM, FOLDER = sys.argv[-2:]
FRAMES = 1_000
IDLE_S = 10
addon = stage.load()
live = addon.live
ticks, own_ms, taken = [], [], 0


def measured_tick():
    global taken
    began = time.perf_counter()
    count = tick()
    own_ms.append((time.perf_counter() - began) * 1000)
    taken += count
    return count


tick, live.tick = live.tick, measured_tick


def share(values, part):
    """The value that so large a part of them does not exceed."""
    return sorted(values)[int(part * (len(values) - 1))]


def a_thousand():
    scene = bpy.context.scene
    stage.small(scene, FOLDER)
    scene.render.resolution_x = scene.render.resolution_y = 8
    scene.render.filepath = os.path.join(FOLDER, "f_")
    scene.frame_end = FRAMES
    properties = next(one for one in bpy.context.screen.areas if one.type == "PROPERTIES")
    properties.spaces.active.context = "OUTPUT"
    live.package()
    local = importlib.import_module(f"{stage.NAME}.vendored.grange.local")
    words = local.command(instances=2, blender=None, sandbox=None, memory_gib=None, program=PROGRAM)
    started = local.Local(words, None)
    told = started.connect
    host, port = told.addresses[0]
    line = f"grange+https://{told.token}@{host}:{port}?ca={told.ca}"
    bpy.ops.grange.sign_in(connect=line)
    yield lambda: live.desk.met
    # What the window takes for itself when the panel is drawn as often, and there is no job.
    ticks.clear()
    began = shown = time.monotonic()
    while time.monotonic() - began < IDLE_S:
        if time.monotonic() - shown >= live.SHOW_EVERY_S:
            shown = time.monotonic()
            addon.farm.showing.redraw()
        yield lambda: True
    idle = [(b - a) * 1000 for a, b in itertools.pairwise(ticks)]
    own_ms.clear()
    ticks.clear()
    bpy.ops.grange.submit("INVOKE_DEFAULT", what="ANIMATION")
    yield lambda: live.jobs()
    (job,) = live.jobs()
    for hundred in range(1, 11):
        yield lambda least=100 * hundred: len(job.pictures) >= least
    yield lambda: job.is_done
    assert job.is_whole and job.news.state == "completed", job
    gaps = [(b - a) * 1000 for a, b in itertools.pairwise(ticks)]
    figures = {
        "addon_pictures": len(job.pictures),
        "addon_news": taken,
        "addon_ticks": len(own_ms),
        "addon_tick_p50_ms": share(own_ms, 0.5),
        "addon_tick_p99_ms": share(own_ms, 0.99),
        "addon_tick_max_ms": max(own_ms),
        "addon_window_gap_p50_ms": share(gaps, 0.5),
        "addon_window_gap_p99_ms": share(gaps, 0.99),
        "addon_window_gap_idle_p50_ms": share(idle, 0.5),
        "addon_window_gap_idle_p99_ms": share(idle, 0.99),
    }
    addon.unregister()
    started.close()
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}), flush=True)
    os._exit(0)


addon.register()
bpy.context.preferences.view.show_splash = False
if hasattr(bpy.app, "online_access"):
    bpy.context.preferences.system.use_online_access = True
stage.play(a_thousand(), ticks)
