"""The add-on and a real farm, without a window. Arguments: an empty folder, the connect string of
the farm, one whose token was revoked, and a viewer's."""

import dataclasses
import glob
import os
import pathlib
import stat
import sys
import tempfile
import threading
import time
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import bpy  # noqa: E402
import paper  # noqa: E402
import stage  # noqa: E402

addon = stage.load()
addon.register()
live, packing = addon.live, addon.farm.packing
CHECKS = []
ROOT, CONNECT, REVOKED, VIEWER = sys.argv[-4:]
PATIENCE_S = 180
OWN_VERSION = bpy.app.version[:2]


def check(function):
    CHECKS.append(function)
    return function


def fresh():
    """The default scene with pictures that take no time, and where they go."""
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    go_online(True)
    folder = tempfile.mkdtemp(dir=ROOT)
    scene = bpy.context.scene
    stage.small(scene, folder)
    scene.frame_end = 3
    scene.render.filepath = os.path.join(folder, "out", "f_")
    return scene, folder


def go_online(may):
    if hasattr(bpy.app, "online_access"):
        bpy.context.preferences.system.use_online_access = may


def saved(folder):
    """The file that is open, under a name."""
    path = os.path.join(folder, "shot.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path, check_existing=False)
    return path


def files(folder):
    found = []
    for where, _, inside in os.walk(folder):
        found += [os.path.relpath(os.path.join(where, name), folder) for name in inside]
    return sorted(found)


def refused(operator, saying, **given):
    """A script gets an exception, with the sentence that a person sees."""
    try:
        done = operator(**given)
    except RuntimeError as error:
        assert saying.lower() in str(error).lower(), error
        return
    raise AssertionError(f"{done}, and not: {saying}")


def wait(is_so):
    began = time.monotonic()

    def is_so_or_never():
        assert time.monotonic() - began < PATIENCE_S, (live.desk.lost, live.jobs())
        return is_so()

    addon.operators.until(is_so_or_never)


def pixel(path):
    """The one in the middle."""
    image = bpy.data.images.load(path, check_existing=False)
    width, height = image.size
    at = 4 * (width * (height // 2) + width // 2)
    found = tuple(round(value, 2) for value in image.pixels[at : at + 3])
    bpy.data.images.remove(image)
    return found


def pixels(path):
    image = bpy.data.images.load(path, check_existing=False)
    found = list(image.pixels)
    bpy.data.images.remove(image)
    return found


def strips_of(scene):
    editor = scene.sequence_editor
    if editor is None:
        return []
    return list(editor.strips if hasattr(editor, "strips") else editor.sequences)


def red_wall():
    """Fills the camera's view with one colour."""
    bpy.data.objects["Cube"].hide_render = True
    bpy.ops.mesh.primitive_plane_add(size=50, location=(0, 0, 0))
    camera = bpy.context.scene.camera
    wall = bpy.context.object
    wall.rotation_euler = camera.rotation_euler
    paint = bpy.data.materials.new("Red")
    paint.use_nodes = True
    nodes = paint.node_tree.nodes
    nodes.clear()
    light, out = nodes.new("ShaderNodeEmission"), nodes.new("ShaderNodeOutputMaterial")
    light.inputs["Color"].default_value = (1, 0, 0, 1)
    paint.node_tree.links.new(light.outputs[0], out.inputs["Surface"])
    wall.data.materials.append(paint)
    bpy.context.scene.view_settings.view_transform = "Standard"


def drawn():
    return paper.drawn(addon.farm_panels.GRANGE_PT_output_farm)


@check
def nobody_is_signed_in_at_first():
    fresh()
    assert not live.connect() and live.problem is None
    assert "Sign In" in drawn()
    refused(bpy.ops.grange.submit, "no farm yet", what="FRAME")
    refused(bpy.ops.grange.sign_in, "this is no connect string", connect="hello")
    short = CONNECT.split("?")[0]
    refused(bpy.ops.grange.sign_in, "is not whole", connect=short)
    assert not live.connect()


@check
def a_token_that_was_revoked_is_said_before_anything_is_sent():
    fresh()
    refused(bpy.ops.grange.sign_in, "expired or was revoked", connect=REVOKED)
    refused(bpy.ops.grange.submit, "expired or was revoked", what="FRAME")
    said = drawn()
    assert "Sign In" in said and "Sign Out" in said, said
    bpy.ops.grange.sign_out()
    assert live.link is None and not os.path.exists(addon.preferences.path("connect"))


@check
def signing_in_is_remembered_for_this_user_alone():
    fresh()
    assert bpy.ops.grange.sign_in(connect=f"  {CONNECT}\n") == {"FINISHED"}
    kept = addon.preferences.path("connect")
    assert stat.S_IMODE(os.stat(kept).st_mode) == 0o600
    live.disconnect()
    assert live.connect()
    wait(lambda: live.desk.met)
    assert live.desk.met.farm == "test" and OWN_VERSION in live.desk.met.more.versions
    assert any(text == "ada on test  ·  1 host" for text in drawn()), drawn()


@check
def a_viewer_and_a_farm_that_is_away_are_said_before_anything_is_sent():
    fresh()
    bpy.ops.grange.sign_in(connect=VIEWER)
    refused(bpy.ops.grange.submit, "eve is a viewer of test", what="FRAME")
    port = CONNECT.split("?")[0].rsplit(":", 1)[1]
    nobody = CONNECT.replace(f":{port}?", ":1?").split("&or=")[0]
    refused(bpy.ops.grange.sign_in, "the farm cannot be reached", connect=nobody)
    refused(bpy.ops.grange.submit, "the farm cannot be reached", what="FRAME")
    assert "Try Again" in drawn() and "Sign Out" in drawn()
    assert bpy.ops.grange.sign_in(connect=CONNECT) == {"FINISHED"}


@check
def who_wants_to_stay_offline_does():
    if not hasattr(bpy.app, "online_access"):
        return
    fresh()
    live.disconnect()
    go_online(False)
    assert not live.connect()
    assert "Allow Online Access" in drawn()
    refused(bpy.ops.grange.submit, "stay offline", what="FRAME")
    refused(bpy.ops.grange.sign_in, "stay offline", connect=CONNECT)
    assert bpy.ops.grange.go_online() == {"FINISHED"} and live.link


@check
def what_is_not_saved_is_rendered_and_the_file_stays_as_it_is():
    _, folder = fresh()
    path = saved(folder)
    content = pathlib.Path(path).read_bytes()
    red_wall()
    before, dirty = stage.settings(), bpy.data.is_dirty
    assert bpy.ops.grange.submit(wait=True) == {"FINISHED"}
    stage.same(before, stage.settings())
    assert (bpy.data.filepath, bpy.data.is_dirty) == (path, dirty)
    assert pathlib.Path(path).read_bytes() == content
    expected = [f"out/f_{frame:04}.png" for frame in (1, 2, 3)]
    assert files(folder) == [*expected, "shot.blend"], files(folder)
    for name in expected:
        red, green, blue = pixel(os.path.join(folder, name))
        assert red > 0.9 and green < 0.1 and blue < 0.1, (red, green, blue)
    assert not glob.glob(os.path.join(bpy.app.tempdir, "grange-*")), "the copy is removed"
    (job,) = live.jobs()
    assert job.news.state == "completed" and job.news.name == "shot" and len(job.pictures) == 3
    said = drawn()
    assert "completed  ·  3 pictures here" in said and "template_icon" not in said, said


@check
def the_current_frame_alone():
    scene, folder = fresh()
    scene.frame_set(42)
    assert bpy.ops.grange.submit(what="FRAME", wait=True, priority=70) == {"FINISHED"}
    assert files(folder) == ["out/f_0042.png"], files(folder)
    assert live.jobs()[0].news.priority == 70
    assert live.jobs()[0].news.name == "untitled, frame 42"


@check
def tags_choose_hosts_and_what_none_has_is_said_before_anything_is_sent():
    scene, folder = fresh()
    scene.grange.tags = "big, night"
    refused(bpy.ops.grange.submit, "no host of the farm has all of the tags big, night")
    said = drawn()
    assert "tags" in said and "Look Again" in said, said
    refused(bpy.ops.grange.submit, "no host of the farm has the tag day", tags="day")
    scene.grange.tags = " big ,"
    assert "Look Again" not in drawn()
    assert bpy.ops.grange.submit(what="FRAME", wait=True) == {"FINISHED"}
    (job,) = live.jobs()
    assert live.link.farm.job(job.job).tags == {"big"}
    assert bpy.ops.grange.submit(what="FRAME", wait=True, tags="") == {"FINISHED"}
    assert live.link.farm.job(live.jobs()[0].job).tags == set()
    # The file remembers them.
    path = saved(folder)
    fresh()
    assert bpy.context.scene.grange.tags == ""
    bpy.ops.wm.open_mainfile(filepath=path)
    assert bpy.context.scene.grange.tags == " big ,"


@check
def shots_come_out_as_they_do_here():
    scene, folder = fresh()
    scene.cycles.samples = 16
    high = stage.add_camera("High", 1.0)
    high.rotation_euler = (0.3, 0.2, 0.1)
    high.scale = (2, 2, 2)
    for frame, x in ((1, 0.0), (3, 4.0)):
        high.location.x = x
        high.keyframe_insert("location", index=0, frame=frame)
    bpy.ops.grange.shots_from_cameras()
    scene.grange.shots[0].frames = "1-3"
    scene.grange.shots[0].output = "{shot}/{camera}_{frame:03}"
    bpy.context.view_layer.objects.active = high
    high.select_set(True)
    bpy.ops.grange.shots_skybox(size=32)
    empty = bpy.data.objects.new("Probe", None)
    empty.location = (1, 2, 3)
    empty.rotation_euler = (0, 0, 1)
    scene.collection.objects.link(empty)
    inside = addon.listing.add(scene, "probe")
    inside.camera, inside.look = empty, "UP"
    inside.use_resolution, inside.resolution_x, inside.resolution_y = True, 32, 32
    before = stage.settings()
    scene.frame_set(2)
    assert bpy.ops.grange.render_shots() == {"FINISHED"}
    here = {name: pixels(os.path.join(folder, name)) for name in files(folder)}
    for name in here:
        os.remove(os.path.join(folder, name))
    assert bpy.ops.grange.submit(what="SHOTS", wait=True) == {"FINISHED"}
    scene.frame_set(before["Scene", "scene", "frame_current"])
    stage.same(before, stage.settings())
    assert files(folder) == sorted(here), (files(folder), sorted(here))
    for name, expected in here.items():
        found = pixels(os.path.join(folder, name))
        off = sum(abs(a - b) for a, b in zip(found, expected, strict=True)) / len(expected)
        assert off < 0.002, (name, off)


@check
def files_that_are_missing_stop_it_before_anything_is_sent():
    _, folder = fresh()
    saved(folder)
    texture = bpy.data.images.new("wood", 4, 4)
    texture.filepath_raw = os.path.join(folder, "wood.png")
    texture.save()
    texture.source = "FILE"
    red_wall()
    nodes = bpy.data.materials["Red"].node_tree
    picture = nodes.nodes.new("ShaderNodeTexImage")
    picture.image = texture
    nodes.links.new(picture.outputs["Color"], nodes.nodes["Emission"].inputs["Color"])
    os.remove(os.path.join(folder, "wood.png"))
    refused(bpy.ops.grange.submit, "wood.png is not there", what="FRAME")
    said = drawn()
    assert "Render Without Them" in said and not live.jobs(), said
    assert bpy.ops.grange.submit(what="FRAME", wait=True, allow_missing=True) == {"FINISHED"}
    assert live.desk.warnings and "wood.png" in live.desk.warnings[0]
    assert live.desk.refused is None


@check
def what_the_panel_says_is_mended_by_its_button():
    scene, folder = fresh()
    scene.camera = None
    refused(bpy.ops.grange.submit, "has no camera", what="ANIMATION")
    assert "Use a Camera of the Scene" in drawn()
    assert bpy.ops.grange.use_camera() == {"FINISHED"} and scene.camera.name == "Camera"
    scene.render.filepath = "//out/"
    refused(bpy.ops.grange.submit, "never saved", what="ANIMATION")
    assert "Save As…" in drawn()
    saved(folder)
    assert "Save As…" not in drawn()
    painted = bpy.data.images.new("painted", 4, 4)
    painted.pixels[0] = 0.5
    painted.update()
    if painted.is_dirty:
        refused(bpy.ops.grange.submit, "image `painted`", what="ANIMATION")
        assert "Save All Images" in drawn()
    bpy.data.images.remove(painted)
    scene.grange.what = "SHOTS"
    assert any("nothing to render" in text for text in drawn()), drawn()
    shot = addon.listing.add(scene, "twice")
    shot.frames, shot.output = "1-2", "{frame}/{frame:04}"
    refused(bpy.ops.grange.submit, "write it once", what="SHOTS")
    # Hosts whose Blenders are too old.
    met = live.desk.met
    told = addon.farm.told
    old = told.More("ada", True, ((2, 93), (3, 3)), ())
    live.desk.put(told.Met(met.farm, met.software, 1, old))
    live.tick()
    refused(bpy.ops.grange.submit, "cannot open files of Blender", what="FRAME")
    assert "Look Again" in drawn()
    assert bpy.ops.grange.try_again() == {"FINISHED"}


@check
def opening_the_file_again_finds_its_job():
    _, folder = fresh()
    path = saved(folder)
    assert bpy.ops.grange.submit() == {"FINISHED"}
    number = live.jobs()[0].job
    # Blender closes, and the job goes on.
    live.disconnect()
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    assert not live.jobs()
    go_online(True)
    bpy.ops.wm.open_mainfile(filepath=path)
    live.connect()
    (job,) = live.jobs()
    assert job.job == number
    wait(lambda: job.is_done)
    assert job.is_whole and len(job.pictures) == 3
    live.tick()
    # What its user has removed since does not come back by itself.
    gone = os.path.join(folder, "out/f_0002.png")
    os.remove(gone)
    live.disconnect()
    live.connect()
    (job,) = live.jobs()
    wait(lambda: job.is_done)
    assert not os.path.exists(gone) and len(job.pictures) == 2
    assert bpy.ops.grange.job_fetch(job=number) == {"FINISHED"}
    wait(lambda: job.is_done and job.is_whole)
    assert os.path.exists(gone)
    assert bpy.ops.grange.job_forget(job=number) == {"FINISHED"}
    live.disconnect()
    live.connect()
    assert not live.jobs()


@check
def a_job_is_paused_put_first_and_canceled():
    scene, folder = fresh()
    scene.frame_end = 60
    scene.cycles.samples = 100
    scene.render.resolution_x, scene.render.resolution_y = 240, 136
    assert bpy.ops.grange.submit() == {"FINISHED"}
    (job,) = live.jobs()
    wait(lambda: job.pictures)
    wait(lambda: any(task.samples for task in job.running.values()))
    said = drawn()
    assert any(text.startswith("active  ·  1 host") for text in said), said
    assert any(text.startswith("sample ") for text in said), said
    assert any(text.endswith(" on host") for text in said), said
    # As if the host had two GPUs of a kind.
    met = live.desk.met
    two = addon.farm.told.Agent("host", ("RTX 4090", "RTX 4090"), frozenset())
    live.desk.take(dataclasses.replace(met, more=dataclasses.replace(met.more, agents=(two,))))
    said = drawn()
    assert any(text.endswith(" on host, RTX 4090 #0") for text in said), said
    bpy.ops.grange.job_pause(job=job.job)
    wait(lambda: job.news.state == "paused")
    bpy.ops.grange.job_priority(job=job.job, priority=90)
    wait(lambda: job.news.priority == 90)
    bpy.ops.grange.job_resume(job=job.job)
    wait(lambda: job.news.state == "active")
    bpy.ops.grange.job_cancel("EXEC_DEFAULT", job=job.job)
    wait(lambda: job.is_done)
    assert job.news.state == "canceled" and not job.running
    done = files(os.path.join(folder, "out"))
    assert 0 < len(done) < 60 and not any(".part" in name for name in done)
    assert len(done) == len(job.pictures)
    assert bpy.ops.grange.job_folder(job=job.job) == {"FINISHED"}
    bpy.ops.grange.job_retry(job=job.job)
    wait(lambda: job.news.state in {"active", "queued"})
    wait(lambda: len(job.pictures) > len(done))
    bpy.ops.grange.job_cancel("EXEC_DEFAULT", job=job.job)
    wait(lambda: job.is_done)


@check
def pictures_are_shown_and_loaded_into_the_sequencer():
    scene, folder = fresh()
    assert bpy.ops.grange.submit(wait=True) == {"FINISHED"}
    (job,) = live.jobs()
    assert bpy.ops.grange.job_picture(job=job.job) == {"FINISHED"}
    image = next(one for one in bpy.data.images if one.get(addon.farm.showing.JOB) == job.job)
    assert image.filepath == job.last and tuple(image.size) == (32, 18)
    job.last = os.path.join(folder, "out/f_0001.png")
    addon.farm.showing._refreshed_at = 0
    addon.farm.showing.refresh([job])
    assert image.filepath == job.last
    os.remove(os.path.join(folder, "out/f_0002.png"))
    del job.pictures[os.path.join(folder, "out/f_0002.png")]
    scenes = set(bpy.data.scenes.keys())
    assert bpy.ops.grange.job_strips(job=job.job) == {"FINISHED"}
    (name,) = set(bpy.data.scenes.keys()) - scenes
    made = bpy.data.scenes[name]
    strips = strips_of(made)
    starts = sorted((int(one.frame_start), int(one.frame_final_duration)) for one in strips)
    assert starts == [(1, 1), (3, 1)], starts
    assert (made.frame_start, made.frame_end) == (1, 3)
    assert not strips_of(scene), "it would render them"


@check
def the_farm_can_be_asked_instead_of_listened_to():
    _, folder = fresh()
    before = addon.preferences.poll_s
    addon.preferences.poll_s = lambda: 0.2
    try:
        bpy.ops.grange.try_again()
        assert bpy.ops.grange.submit(wait=True) == {"FINISHED"}
    finally:
        addon.preferences.poll_s = before
    assert len(files(os.path.join(folder, "out"))) == 3


@check
def a_folder_that_cannot_be_written_is_said_and_the_farm_keeps_the_pictures():
    _, folder = fresh()
    out = os.path.join(folder, "out")
    open(out, "w").close()
    refused(bpy.ops.grange.submit, "cannot be written", wait=True)
    (job,) = live.jobs()
    assert job.news.state == "completed" and job.problem and not job.is_whole
    assert "Fetch Again" in drawn()
    os.remove(out)
    bpy.ops.grange.job_fetch(job=job.job)
    wait(lambda: job.is_done and job.is_whole)
    assert len(files(out)) == 3 and job.problem is None


@check
def turning_it_off_leaves_nothing():
    addon.unregister()
    assert live.link is None and not bpy.app.timers.is_registered(live._timer)
    for thread in threading.enumerate():
        if thread.name.startswith("grange-"):
            thread.join(10)
            assert not thread.is_alive(), thread
    addon.register()


def main():
    for function in CHECKS:
        try:
            function()
        except BaseException:
            print(f"{function.__name__} fails", flush=True)
            raise
        print(f"{function.__name__} is well", flush=True)
    print("all is well", flush=True)


try:
    main()
except BaseException:
    traceback.print_exc()
    stage.finish(False)
stage.finish(True)
