"""The add-on without a window: its operators, what they change, and what is as it was afterwards.
Argument: an empty folder."""

import os
import sys
import tempfile
import time
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import bpy  # noqa: E402
import paper  # noqa: E402
import stage  # noqa: E402
from mathutils import Vector  # noqa: E402

addon = stage.load()
CHECKS = []
ROOT = sys.argv[-1]


def check(function):
    CHECKS.append(function)
    return function


def fresh():
    """The default scene with pictures that take no time, and where they go."""
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    folder = tempfile.mkdtemp(dir=ROOT)
    scene = bpy.context.scene
    stage.small(scene, folder)
    return scene, folder


def names(scene):
    return [shot.name for shot in scene.grange.shots]


def files(folder):
    found = []
    for where, _, inside in os.walk(folder):
        found += [os.path.relpath(os.path.join(where, name), folder) for name in inside]
    return sorted(found)


def refused(saying, **given):
    """A script gets an exception, with the sentence that a person sees."""
    try:
        done = bpy.ops.grange.render_shots(**given)
    except RuntimeError as error:
        assert saying in str(error), error
        return
    raise AssertionError(f"{done}, and not: {saying}")


def size(path):
    image = bpy.data.images.load(path)
    found = tuple(image.size)
    bpy.data.images.remove(image)
    return found


@check
def registers_twice():
    before = stage.handlers()
    addon.register()
    assert hasattr(bpy.types.Scene, "grange")
    addon.unregister()
    assert not hasattr(bpy.types.Scene, "grange")
    assert stage.handlers() == before
    addon.register()


@check
def the_list_is_changed_by_operators():
    scene, _ = fresh()
    ops = bpy.ops.grange
    assert not ops.shot_remove.poll() and not ops.shot_move.poll()
    assert ops.shot_add() == {"FINISHED"}
    assert ops.shot_add() == {"FINISHED"}
    assert names(scene) == ["Shot", "Shot.001"] and scene.grange.active == 1
    scene.grange.shots[0].frames, scene.grange.shots[0].samples = "1-4", 7
    scene.grange.active = 0
    assert ops.shot_duplicate() == {"FINISHED"}
    assert names(scene) == ["Shot", "Shot.002", "Shot.001"] and scene.grange.active == 1
    copy = scene.grange.shots[1]
    assert (copy.frames, copy.samples, copy.output) == ("1-4", 7, "{shot}")
    assert ops.shot_move(direction="UP") == {"FINISHED"}
    assert ops.shot_move(direction="UP") == {"CANCELLED"}
    assert names(scene) == ["Shot.002", "Shot", "Shot.001"]
    assert ops.shot_move(direction="DOWN") == {"FINISHED"}
    assert scene.grange.active == 1
    assert ops.shot_remove() == {"FINISHED"}
    assert names(scene) == ["Shot", "Shot.001"] and scene.grange.active == 1
    ops.shots_enable(enabled=False)
    assert not any(shot.enabled for shot in scene.grange.shots)
    assert ops.shot_remove(all=True) == {"FINISHED"}
    assert names(scene) == [] and scene.grange.active == 0


@check
def every_property_of_a_shot_is_duplicated():
    known = set(addon.shots.GRANGE_Shot.__annotations__)
    assert known == set(addon.listing.COPIED), known ^ set(addon.listing.COPIED)


@check
def shots_come_from_cameras_markers_and_a_skybox():
    scene, _ = fresh()
    stage.add_camera("Above")
    assert bpy.ops.grange.shots_from_cameras() == {"FINISHED"}
    assert bpy.ops.grange.shots_from_cameras() == {"CANCELLED"}
    assert names(scene) == ["Above", "Camera"]
    assert scene.grange.shots[0].camera.name == "Above"
    bpy.ops.grange.shot_remove(all=True)

    assert bpy.ops.grange.shots_from_markers() == {"CANCELLED"}
    scene.timeline_markers.new("late", frame=20)
    scene.timeline_markers.new("early", frame=10).camera = bpy.data.objects["Above"]
    scene.frame_end = 30
    bpy.ops.grange.shots_from_markers()
    bpy.ops.grange.shots_from_markers(until_next=True)
    found = [(shot.name, shot.frames) for shot in scene.grange.shots]
    assert found == [
        *(("early", "10"), ("late", "20")),
        *(("early.001", "10-19"), ("late.001", "20-30")),
    ], found
    assert scene.grange.shots[0].camera.name == "Above" and scene.grange.shots[1].camera is None
    bpy.ops.grange.shot_remove(all=True)

    for one in bpy.context.view_layer.objects:
        one.select_set(False)
    bpy.ops.object.empty_add()
    assert bpy.ops.grange.shots_skybox(size=16) == {"FINISHED"}
    assert names(scene) == [
        f"Empty {side}" for side in ["Front", "Back", "Left", "Right", "Up", "Down"]
    ]
    assert {shot.camera.name for shot in scene.grange.shots} == {"Empty"}


@check
def undo_takes_a_shot_back_and_a_file_keeps_it():
    _scene, folder = fresh()
    bpy.ops.ed.undo_push(message="Begin")
    bpy.ops.grange.shots_from_cameras()
    bpy.ops.ed.undo_push(message="Shots")
    bpy.ops.ed.undo()
    assert names(bpy.context.scene) == []
    bpy.ops.ed.redo()
    assert names(bpy.context.scene) == ["Camera"]
    bpy.context.scene.grange.shots[0].output = "{camera}/{frame:02}"
    path = os.path.join(folder, "shots.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path, check_existing=False)
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    bpy.ops.wm.open_mainfile(filepath=path)
    kept = bpy.context.scene.grange.shots[0]
    assert (kept.name, kept.camera.name, kept.output) == ("Camera", "Camera", "{camera}/{frame:02}")


def a_list(scene):
    """Two cameras, overrides, a range, a view layer, a marker that would switch cameras."""
    above = stage.add_camera("Above")
    scene.view_layers.new("Other")
    scene.timeline_markers.new("cut", frame=2).camera = scene.camera
    scene.frame_set(5, subframe=0.25)
    scene.render.resolution_percentage = 50
    hero = addon.listing.add(scene, "hero {1}")
    hero.camera, hero.use_resolution, hero.resolution_x, hero.resolution_y = above, True, 24, 16
    turn = addon.listing.add(scene, "turn")
    turn.frames, turn.output, turn.view_layer = "1-2", "{scene}/{shot}_####", "Other"
    turn.use_samples, turn.samples = True, 2
    return above


@check
def renders_and_puts_everything_back():
    scene, folder = fresh()
    a_list(scene)
    before, handlers = stage.settings(), stage.handlers()
    seen = []

    def look(*_):
        here = bpy.context.scene
        layers = tuple(layer.name for layer in here.view_layers if layer.use)
        seen.append((here.camera.name, here.frame_current, here.cycles.samples, layers))

    bpy.app.handlers.render_pre.append(look)
    assert bpy.ops.grange.render_shots() == {"FINISHED"}
    bpy.app.handlers.render_pre.remove(look)
    assert files(folder) == ["Scene/turn_0001.png", "Scene/turn_0002.png", "hero {1}.png"]
    assert seen == [
        ("Above", 5, 1, ("ViewLayer", "Other")),
        ("Camera", 1, 2, ("Other",)),
        ("Camera", 2, 2, ("Other",)),
    ], seen
    assert size(os.path.join(folder, "hero {1}.png")) == (24, 16)
    assert size(os.path.join(folder, "Scene/turn_0001.png")) == (16, 9)
    stage.same(before, stage.settings())
    assert stage.handlers() == handlers


@check
def only_what_is_chosen_or_ticked_is_rendered():
    scene, folder = fresh()
    a_list(scene)
    scene.grange.active = 0
    assert bpy.ops.grange.render_shots(only_active=True) == {"FINISHED"}
    assert files(folder) == ["hero {1}.png"]
    scene.grange.shots[0].enabled = False
    bpy.ops.grange.render_shots()
    assert len(files(folder)) == 3
    scene.grange.shots[1].enabled = False
    refused("There is nothing to render: add a shot, or tick one")


@check
def another_scene_is_rendered_too():
    scene, folder = fresh()
    other = scene.copy()
    other.name = "Second"
    other.grange.shots.clear()
    shot = addon.listing.add(scene, "there")
    shot.scene, shot.output, shot.frames = other, "{scene} {shot} {frame:03}", "9"
    addon.listing.add(scene, "here")
    before = stage.settings()
    assert bpy.ops.grange.render_shots() == {"FINISHED"}
    assert files(folder) == ["Second there 009.png", "here.png"], files(folder)
    stage.same(before, stage.settings())


@check
def a_skybox_looks_to_six_sides():
    scene, folder = fresh()
    empty = bpy.data.objects.new("Eye", None)
    scene.collection.objects.link(empty)
    empty.location = (1, 2, 3)
    bpy.context.view_layer.update()
    sides = {"FRONT": (0, 1, 0), "BACK": (0, -1, 0), "LEFT": (-1, 0, 0), "RIGHT": (1, 0, 0)}
    sides |= {"UP": (0, 0, 1), "DOWN": (0, 0, -1)}
    for look, towards in sides.items():
        matrix = addon.settings.looking.camera(scene, empty, look).matrix_world
        ahead = matrix.to_3x3() @ Vector((0, 0, -1))
        assert (ahead - Vector(towards)).length < 1e-5, (look, ahead)
        assert (matrix.translation - empty.location).length < 1e-5
        up = matrix.to_3x3() @ Vector((0, 1, 0))
        level = {"UP": (0, -1, 0), "DOWN": (0, 1, 0)}.get(look, (0, 0, 1))
        assert (up - Vector(level)).length < 1e-5, (look, up)
    addon.settings.looking.clear()
    before = stage.settings()
    bpy.context.view_layer.objects.active = empty
    empty.select_set(True)
    bpy.ops.grange.shots_skybox(size=16)
    assert bpy.ops.grange.render_shots() == {"FINISHED"}
    expected = [f"Eye {side}.png" for side in ("Back", "Down", "Front", "Left", "Right", "Up")]
    assert files(folder) == expected, files(folder)
    assert {size(os.path.join(folder, name)) for name in expected} == {(16, 16)}
    stage.same(before, stage.settings())


@check
def a_movie_scene_makes_pictures():
    scene, folder = fresh()
    image = scene.render.image_settings
    if hasattr(image, "media_type"):
        image.media_type = "VIDEO"
    image.file_format = "FFMPEG"
    addon.listing.add(scene, "still")
    before = stage.settings()
    assert bpy.ops.grange.render_shots() == {"FINISHED"}
    assert files(folder) == ["still.png"]
    stage.same(before, stage.settings())


@check
def mistakes_are_said_before_anything_is_rendered():
    scene, folder = fresh()
    refused("There is nothing to render")
    shot = addon.listing.add(scene, "hero")
    before = stage.settings()

    def mistake(saying, **given):
        for name, value in given.items():
            setattr(shot, name, value)
        refused(saying)
        for name in given:
            shot.property_unset(name)

    mistake("Shot `hero`: `x` is no frame", frames="x")
    mistake("unknown token {sho}", output="{sho}")
    mistake("has no view layer `No`", view_layer="No")
    mistake("`Cube` is no camera", camera=bpy.data.objects["Cube"])
    lonely = bpy.data.objects.new("Lonely", bpy.data.cameras.new("Lonely"))
    mistake("`Lonely` is not in scene `Scene`", camera=lonely)
    bpy.data.cameras.remove(lonely.data)
    scene.camera = None
    refused("has no camera: choose one for the shot")
    scene.camera = bpy.data.objects["Camera"]
    scene.render.filepath = "//pictures/"
    refused("save the file first")
    scene.render.filepath = os.path.join(folder, "")
    stage.same(before, stage.settings())
    assert files(folder) == []


@check
def a_denoiser_that_is_missing_is_said_before():
    """Debian's Blender has none."""
    scene, folder = fresh()
    addon.listing.add(scene, "hero")
    scene.cycles.use_denoising = True
    if addon.shots._has_denoiser():
        assert bpy.ops.grange.render_shots() == {"FINISHED"}
        return
    refused("built without a denoiser")
    assert files(folder) == []
    scene.view_layers[0].cycles.use_denoising = False
    assert bpy.ops.grange.render_shots() == {"FINISHED"}


@check
def an_error_keeps_what_is_finished_and_puts_everything_back():
    scene, folder = fresh()
    for name in ("first", "second", "third"):
        addon.listing.add(scene, name)
    os.makedirs(os.path.join(folder, "second.png"))
    before, handlers = stage.settings(), stage.handlers()
    refused("Shot `second`: ")
    assert files(folder) == ["first.png"], files(folder)
    stage.same(before, stage.settings())
    assert stage.handlers() == handlers
    with open(os.path.join(folder, "blocked"), "w"):
        pass
    scene.grange.shots[1].output = "blocked/{shot}"
    refused("cannot be made")
    stage.same(before, stage.settings())


@check
def a_cancel_ends_the_list_and_puts_everything_back():
    scene, folder = fresh()
    for name in ("first", "second", "third"):
        addon.listing.add(scene, name)
    before, handlers = stage.settings(), stage.handlers()

    def cancel(*_):
        # As if Blender had canceled it: no file, and the handlers told.
        if "second" in bpy.context.scene.render.filepath:
            bpy.context.scene.render.filepath = os.path.join(folder, "elsewhere/second.png")
            addon.running._on_cancel()

    bpy.app.handlers.render_init.append(cancel)
    refused("Canceled: 1 of 3 pictures written")
    bpy.app.handlers.render_init.remove(cancel)
    assert "third.png" not in files(folder)
    stage.same(before, stage.settings())
    assert stage.handlers() == handlers


@check
def a_second_start_is_refused():
    scene, _ = fresh()
    addon.listing.add(scene, "hero")
    answers = []
    again = lambda *_: answers.append(bpy.ops.grange.render_shots())  # noqa: E731
    bpy.app.handlers.render_pre.append(again)
    assert bpy.ops.grange.render_shots() == {"FINISHED"}
    bpy.app.handlers.render_pre.remove(again)
    assert answers == [{"CANCELLED"}], answers


@check
def the_panels_say_what_there_is():
    scene, _ = fresh()
    panels = addon.panels
    assert paper.drawn(panels.GRANGE_PT_output)[-1] == "", "only buttons that make shots"
    bpy.ops.grange.shots_from_cameras()
    addon.listing.add(scene, "turn").frames = "1-24"
    assert "Render 25 Pictures" in paper.drawn(panels.GRANGE_PT_sidebar)
    shot = paper.drawn(panels.GRANGE_PT_sidebar_shot)
    assert "turn_0001.png" in shot and "view_layer" in shot, shot
    paper.drawn(panels.GRANGE_MT_shots)
    row = paper.Panel()
    for item in scene.grange.shots:
        panels.GRANGE_UL_shots.draw_item(row, None, row.layout, None, item, 0, None, "")
    assert "1-24" in row.texts()
    scene.grange.shots[1].output = "{no}"
    said = " ".join(paper.drawn(panels.GRANGE_PT_output))
    assert "shot `turn`: the output name `{no}` has an unknown token {no}" in said, said
    assert "Render Shots" in said


@check
def a_long_list_is_drawn_quickly():
    scene, _ = fresh()
    for number in range(50):
        addon.listing.add(scene, f"turn {number}").frames = "1-1000"
    paper.drawn(addon.panels.GRANGE_PT_output)
    began = time.monotonic()
    for _ in range(20):
        assert "Render 50000 Pictures" in paper.drawn(addon.panels.GRANGE_PT_output)
        paper.drawn(addon.panels.GRANGE_PT_output_shot)
    each_ms = (time.monotonic() - began) / 20 * 1000
    print(f"drawn in {each_ms:.1f} ms")


@check
def the_panels_show_a_run():
    scene, _ = fresh()
    for name in ("first", "second"):
        addon.listing.add(scene, name)
    said, bars = [], []

    def look(*_):
        said.append(paper.drawn(addon.panels.GRANGE_PT_output))
        header = paper.Panel()
        addon.panels.draw_header(header, paper.Context())
        bars.append(header.texts())

    bpy.app.handlers.render_pre.append(look)
    bpy.ops.grange.render_shots()
    bpy.app.handlers.render_pre.remove(look)
    assert "Shot 1 of 2: first, frame 1" in said[0], said
    assert "Shot 2 of 2: second, frame 1" in said[1] and "0:00 left" in said[1], said
    # It goes by time, so the second picture may have come a way already.
    assert "Progress" in bars[1] or 50 <= int(bars[1][1].split()[0]) < 100, bars
    assert "2 pictures written" in paper.drawn(addon.panels.GRANGE_PT_output)


@check
def a_state_from_the_middle_of_a_run_is_put_right():
    """A crash, an autosave: the file is opened again, and is as the user had it."""
    scene, folder = fresh()
    above = a_list(scene)
    before = stage.settings()
    addon.running.applying.show(addon.rendering.pictures.plan(addon.shots.wanted(scene))[0])
    assert scene.camera == above and scene.grange.before
    path = os.path.join(folder, "middle.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path, copy=True, check_existing=False)
    bpy.ops.wm.open_mainfile(filepath=path)
    stage.same(before, stage.settings() | {"file": ""})


@check
def the_folder_is_there_or_said_not_to_be():
    scene, folder = fresh()
    assert bpy.ops.grange.open_folder() == {"FINISHED"}
    scene.render.filepath = os.path.join(folder, "no/")
    assert bpy.ops.grange.open_folder() == {"CANCELLED"}
    assert not bpy.ops.grange.stop_after_picture.poll()


for one in CHECKS:
    name = one.__name__.replace("_", " ")
    try:
        one()
    except BaseException:
        traceback.print_exc()
        print("failed:", name)
        stage.finish(False)
    print("well:", name, flush=True)
addon.unregister()
print("all is well")
stage.finish(True)
