"""One scenario of the add-on in a real window. Arguments: the scenario and an empty folder.

A scenario is a generator that yields what it waits for; a timer of Blender's drives it, so its
ticks show whether the interface is alive. Keys are pressed by xdotool, as a person would.
"""

import itertools
import os
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import bpy  # noqa: E402
import stage  # noqa: E402

addon = stage.load()
SCENARIO, FOLDER = sys.argv[-2:]
ticks = []


def window():
    return bpy.context.window_manager.windows[0]


def area(kind):
    return next(one for one in window().screen.areas if one.type == kind)


def inside(kind="PROPERTIES"):
    where = area(kind)
    region = next(one for one in where.regions if one.type == "WINDOW")
    return bpy.context.temp_override(window=window(), area=where, region=region)


def layout():
    return [(one.type, one.x, one.y, one.width, one.height) for one in window().screen.areas]


def running():
    return addon.running.current


def last():
    return addon.running.last


def files():
    return sorted(os.listdir(FOLDER))


def three_cameras(samples):
    scene = bpy.context.scene
    stage.small(scene, FOLDER, samples)
    scene.render.resolution_x, scene.render.resolution_y = 320, 180
    # OpenGL is software here, and needs a core of its own.
    scene.render.threads_mode, scene.render.threads = "FIXED", 1
    stage.add_camera("Side", 1.0)
    stage.add_camera("Top", 2.0)
    with inside("VIEW_3D"):
        bpy.ops.grange.shots_from_cameras()
        bpy.ops.ed.undo_push(message="Begin")


def start():
    with inside():
        return bpy.ops.grange.render_shots("INVOKE_DEFAULT")


def in_the_middle():
    """The second picture is being rendered."""
    run = running()
    assert run or last().went_well is None, last().said
    return run.progress.done == 1 and addon.running.is_rendering()


def nothing_left(before, handlers):
    stage.same(before, stage.settings())
    assert stage.handlers() == handlers, stage.handlers()
    assert window().workspace.status_text_set_internal(None) is None


def renders_three():
    three_cameras(samples=400)
    before, handlers = stage.settings(), stage.handlers()
    assert start() == {"RUNNING_MODAL"}
    assert start() == {"CANCELLED"}, "a second run"
    ticks.clear()
    yield in_the_middle
    line = running().line()
    assert line.startswith("Shot 2 of 3: Side, frame 1"), line
    assert "left" in line, line
    assert 0.3 < addon.running.fraction() < 0.7
    yield lambda: running() is None
    assert last().went_well, last().said
    assert files() == ["Camera.png", "Side.png", "Top.png"], files()
    longest = max(b - a for a, b in itertools.pairwise(ticks))
    print(f"{len(ticks)} ticks, the longest gap {longest:.2f} s", flush=True)
    assert len(ticks) > 20, ticks
    nothing_left(before, handlers)


def escape_cancels():
    three_cameras(samples=4000)
    bpy.context.scene.grange.shots[0].use_samples = True
    bpy.context.scene.grange.shots[0].samples = 1
    before, handlers = stage.settings(), stage.handlers()
    start()
    yield in_the_middle
    settled = time.monotonic()
    yield lambda: time.monotonic() - settled > 1
    heard = []
    hear = lambda *_: heard.append(time.monotonic())  # noqa: E731
    bpy.app.handlers.render_cancel.append(hear)
    began = time.monotonic()
    stage.key("Escape")
    yield lambda: running() is None
    over = time.monotonic()
    bpy.app.handlers.render_cancel.remove(hear)
    print(f"canceled after {over - began:.2f} s: {last().said}", flush=True)
    print(f"of which {over - heard[0]:.2f} s were the add-on's", flush=True)
    assert last().said == "canceled: 1 of 3 pictures written", last().said
    assert files() == ["Camera.png"], files()
    yield lambda: not addon.running.is_rendering()
    nothing_left(before, handlers)
    # And it can be started again.
    yield stage.pressed(start_with_one_sample)
    yield lambda: running() is None
    assert last().went_well, last().said


def start_with_one_sample():
    for shot in bpy.context.scene.grange.shots:
        shot.use_samples, shot.samples = True, 1
    assert start() == {"RUNNING_MODAL"}


def full_screen_keeps_the_layout():
    three_cameras(samples=400)
    bpy.context.preferences.view.render_display_type = "SCREEN"
    before, handlers, shape = stage.settings(), stage.handlers(), layout()
    start()
    yield in_the_middle
    assert "IMAGE_EDITOR" in {kind for kind, *_ in layout()}, layout()
    assert len(layout()) == len(shape), layout()
    yield lambda: running() is None
    assert last().went_well, last().said
    assert layout() == shape, layout()
    nothing_left(before, handlers)


def keeps_the_interface():
    """With the display that shows nothing."""
    three_cameras(samples=400)
    bpy.context.preferences.view.render_display_type = "NONE"
    before, handlers, shape = stage.settings(), stage.handlers(), layout()
    start()
    yield in_the_middle
    assert layout() == shape, layout()
    yield lambda: running() is None
    assert last().went_well, last().said
    nothing_left(before, handlers)


def undo_and_save_in_the_middle():
    three_cameras(samples=400)
    bpy.context.preferences.view.render_display_type = "NONE"
    before, handlers = stage.settings(), stage.handlers()
    start()
    yield in_the_middle
    path = os.path.join(FOLDER, "saved.blend")
    yield stage.pressed(lambda: save_and_move(path))
    stage.key("ctrl+z")
    yield cube_is_at(5)
    assert running(), last().said
    yield lambda: running() is None
    assert last().went_well, last().said
    assert cube_is_at(5)()
    nothing_left(before, handlers)
    # This state is from the middle of the run, and Blender kept it so.
    stage.key("ctrl+shift+z")
    yield cube_is_at(6)
    stage.same(before, stage.settings())
    for x in (5, 0):
        stage.key("ctrl+z")
        yield cube_is_at(x)
    stage.same(before, stage.settings())
    assert files() == ["Camera.png", "Side.png", "Top.png", "saved.blend"], files()
    yield stage.pressed(lambda: bpy.ops.wm.open_mainfile(filepath=path))
    stage.same(before, stage.settings() | {"file": ""})


def save_and_move(path):
    bpy.ops.wm.save_as_mainfile(filepath=path, copy=True, check_existing=False)
    assert "Side.png" in bpy.context.scene.render.filepath, "the picture goes on"
    with inside("VIEW_3D"):
        for x in (5, 6):
            bpy.data.objects["Cube"].location.x = x
            bpy.ops.ed.undo_push(message="Move")


def cube_is_at(x):
    return lambda: bpy.data.objects["Cube"].location.x == x


def a_new_file_ends_it():
    three_cameras(samples=4000)
    bpy.context.scene.grange.shots[0].use_samples = True
    bpy.context.scene.grange.shots[0].samples = 1
    handlers = stage.handlers()
    start()
    yield in_the_middle
    yield stage.pressed(lambda: bpy.ops.wm.read_homefile(use_factory_startup=True, load_ui=False))
    assert running() is None
    assert last().said == "another file was opened: 1 of 3 pictures written", last().said
    yield lambda: not addon.running.is_rendering()
    assert stage.handlers() == handlers, stage.handlers()
    yield stage.pressed(lambda: three_cameras(samples=1))
    yield stage.pressed(start)
    yield lambda: running() is None
    assert last().went_well, last().said


def stops_after_the_picture():
    three_cameras(samples=40)
    before, handlers = stage.settings(), stage.handlers()
    start()
    yield in_the_middle
    yield stage.pressed(bpy.ops.grange.stop_after_picture)
    yield lambda: running() is None
    assert last().said == "stopped: 2 of 3 pictures written", last().said
    nothing_left(before, handlers)


def turned_off_in_the_middle():
    three_cameras(samples=400)
    before, handlers = stage.settings(), stage.handlers()
    start()
    yield in_the_middle
    yield stage.pressed(addon.unregister)
    assert running() is None
    yield lambda: not addon.running.is_rendering()
    addon.register()
    assert last().said == "the add-on was turned off", last().said
    assert stage.handlers() == handlers, stage.handlers()
    assert bpy.context.scene.camera.name == "Camera"
    assert bpy.context.scene.render.filepath == before["Scene", "render", "filepath"]


def an_error_ends_it():
    three_cameras(samples=1)
    os.makedirs(os.path.join(FOLDER, "Side.png"))
    before, handlers = stage.settings(), stage.handlers()
    start()
    yield lambda: running() is None
    assert "Side.png was not written" in last().said, last().said
    assert "1 of 3 pictures written" in last().said, last().said
    nothing_left(before, handlers)


def renders_where_timers_may_not_write():
    yield from stage.stick()
    yield stage.pressed(lambda: three_cameras(samples=40))
    before, handlers = stage.settings(), stage.handlers()
    yield stage.pressed(start)
    yield in_the_middle
    yield lambda: running() is None
    assert last().went_well, last().said
    assert files() == ["Camera.png", "Side.png", "Top.png"], files()
    nothing_left(before, handlers)


addon.register()
bpy.context.preferences.view.show_splash = False
stage.play(globals()[SCENARIO](), ticks)
