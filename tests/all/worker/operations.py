"""Operations of a session, called as a session calls them, with results that are known beforehand.
Prints a line for every check. Argument: the directory that has the worker."""

import array
import json
import math
import os
import random
import socket
import sys
import tempfile
import threading
import time
import traceback

import bpy

sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[-1])

from bpy_extras.object_utils import world_to_camera_view  # noqa: E402
from mathutils import Euler, Matrix, Vector  # noqa: E402
from worker import host, rendering  # noqa: E402
from worker.link import Link  # noqa: E402
from worker.session import begin, calls, curves, frames, naming, values  # noqa: E402
from worker.session.state import LOOKS, OPERATIONS, Session  # noqa: E402

CHECKS = []
SESSION: Session


def check(function):
    CHECKS.append(function)
    return function


def call(name, *positional, **args):
    """As it comes over the wire: through JSON both ways."""
    sent = json.loads(json.dumps({"$args": list(positional), **args}))
    SESSION.warnings.clear()
    return json.loads(json.dumps(values.encode(calls.perform(SESSION, name, values.decode(sent)))))


def raised(kind, name, *positional, **args):
    """The sentence of the error that the call has to raise."""
    try:
        value = call(name, *positional, **args)
    except Exception as error:
        assert type(error) is kind, repr(error)
        return str(error)
    raise AssertionError(f"{name} gave {value!r}")


def near(one, other, within=1e-4):
    if isinstance(one, (int, float)):
        return abs(one - other) <= within
    one, other = list(one), list(other)
    return len(one) == len(other) and all(near(a, b, within) for a, b in zip(one, other))


def fresh():
    """The default cube, a camera on the z axis above it, and a new session."""
    global SESSION
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    camera = scene.camera
    camera.location, camera.rotation_euler = (0, 0, 10), (0, 0, 0)
    bpy.context.view_layer.update()
    SESSION = begin.begin("made up")
    return scene, camera


def animated(scene):
    """The cube moves along x from 0 to 10 between frames 1 and 11, and spins; its spin is off."""
    cube = bpy.data.objects["Cube"]
    for frame, x in ((1, 0.0), (11, 10.0)):
        cube.location.x = x
        cube.keyframe_insert("location", index=0, frame=frame)
        cube.rotation_euler.z = x
        cube.keyframe_insert("rotation_euler", index=2, frame=frame)
    for _, curve in curves.every_curve():
        for point in curve.keyframe_points:
            point.interpolation = "LINEAR"
        curve.mute = curve.data_path == "rotation_euler"
    scene.frame_start, scene.frame_end = 0, 99
    scene.frame_set(1)
    global SESSION
    SESSION = begin.begin("made up")
    return cube


def seen(scene, camera, point):
    """Where in the picture, in pixels, by Blender's own add-on code."""
    x, y, _ = world_to_camera_view(scene, camera, Vector(point))
    width, height = rendering.picture_size(scene)
    return x * width, (1 - y) * height


@check
def intrinsics_and_extrinsics_project_as_blender_does():
    scene, camera = fresh()
    rng = random.Random(1)
    camera.scale = (2, 3, 0.5)
    sizes = ((640, 480), (300, 700), (512, 512))
    for width, height in sizes:
        for fit in ("AUTO", "HORIZONTAL", "VERTICAL"):
            for aspect in ((1, 1), (1.5, 1), (1, 1.8)):
                for percent in (100, 50):
                    render, data = scene.render, camera.data
                    render.resolution_x, render.resolution_y = width, height
                    render.resolution_percentage = percent
                    render.pixel_aspect_x, render.pixel_aspect_y = aspect
                    data.sensor_fit, data.sensor_width, data.sensor_height = fit, 30, 22
                    data.lens = rng.uniform(20, 80)
                    data.shift_x, data.shift_y = rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.3)
                    camera.location = [rng.uniform(-5, 5) for _ in range(3)]
                    camera.rotation_euler = [rng.uniform(-3, 3) for _ in range(3)]
                    k = Matrix(call("camera_intrinsics"))
                    pose = Matrix(call("camera_extrinsics"))
                    assert near(pose.to_3x3().determinant(), 1), "the scale is still there"
                    for _ in range(5):
                        x, y, z = rng.uniform(-2, 2), rng.uniform(-2, 2), rng.uniform(2, 9)
                        u, v, w = k @ Vector((x, y, z))
                        world = pose @ Vector((x, -y, -z))
                        blender = seen(scene, camera, world)
                        assert near((u / w, v / w), blender, 0.02), ((u / w, v / w), blender)
    info = call("camera_info")
    assert info["w"] == 256 and info["h"] == 256 and info["c"] == 4, info
    assert near(info["intrinsics"], call("camera_intrinsics")) and info["frame"] == 1
    assert info["fl_x"] == info["intrinsics"][0][0] and info["cy"] == info["intrinsics"][1][2]
    assert info["type"] == "PERSP" and info["sensor_fit"] == "VERTICAL"


@check
def cropped_pictures_have_their_own_origin():
    scene, _ = fresh()
    render = scene.render
    render.resolution_x, render.resolution_y = 200, 100
    render.use_border = render.use_crop_to_border = True
    render.border_min_x, render.border_max_x = 0.25, 0.75
    render.border_min_y, render.border_max_y = 0.5, 1.0
    k = call("camera_intrinsics")
    assert near((k[0][2], k[1][2]), (50, 50)), k
    info = call("camera_info")
    assert (info["w"], info["h"]) == (100, 50), info


@check
def cameras_that_are_no_pinholes_say_so():
    _, camera = fresh()
    for kind in ("ORTHO", "PANO"):
        camera.data.type = kind
        says = raised(RuntimeError, "camera_intrinsics")
        assert f"of type {kind}" in says and "PERSP" in says, says
        info = call("camera_info")
        assert info["intrinsics"] is None and info["fl_x"] is None and info["type"] == kind
    bpy.context.scene.camera = None
    assert "has no camera" in raised(RuntimeError, "camera_info")


@check
def the_camera_is_put_where_it_is_told():
    _, camera = fresh()
    call("position_camera", location=[1, 2, 3], look_at=[1, 2, -5])
    assert near(call("camera_extrinsics"), Matrix.Translation((1, 2, 3)))
    turn = Euler((0.3, -0.4, 0.5))
    quaternion = turn.to_quaternion()
    shapes = (list(turn), list(quaternion), [list(row) for row in turn.to_matrix()])
    for rotation in shapes:
        call("position_camera", location=[0, 0, 0], rotation=[0, 0, 0])
        call("position_camera", rotation=rotation)
        assert near(call("camera_extrinsics"), turn.to_matrix().to_4x4()), rotation
    numbers = array.array("f", [one for row in turn.to_matrix() for one in row]).tobytes()
    packed = {"dtype": "<f4", "shape": [3, 3], "data": values.encode(numbers)["$bytes"]}
    call("position_camera", rotation={"$array": packed})
    assert near(call("camera_extrinsics"), turn.to_matrix().to_4x4())
    # Below a parent that is elsewhere, and with a scale of its own.
    parent = bpy.data.objects["Cube"]
    parent.location, parent.rotation_euler, parent.scale = (3, 1, 2), (1, 1, 1), (2, 2, 2)
    camera.parent, camera.scale = parent, (0.5, 0.5, 0.5)
    call("position_camera", location=[4, 5, 6], rotation=list(turn))
    expected = Matrix.Translation((4, 5, 6)) @ turn.to_matrix().to_4x4()
    assert near(call("camera_extrinsics"), expected)
    call("offset_camera", [0, 0, -2])
    ahead = Vector((4, 5, 6)) + turn.to_matrix() @ Vector((0, 0, -2))
    assert near(Matrix(call("camera_extrinsics")).translation, ahead)
    assert not SESSION.warnings, SESSION.warnings


@check
def wrong_places_are_explained():
    fresh()
    look = {"look_at": [0, 0, 0]}
    assert "one of them" in raised(ValueError, "position_camera", rotation=[0, 0, 0], **look)
    assert "where the camera is" in raised(ValueError, "position_camera", look_at=[0, 0, 10])
    assert "location is 3 numbers" in raised(TypeError, "position_camera", location=[1, 2])
    assert "a 3x3 matrix" in raised(TypeError, "position_camera", rotation=[1, 2])
    assert "a 3x3 matrix" in raised(TypeError, "position_camera", rotation="up")
    double = [[2, 0, 0], [0, 2, 0], [0, 0, 2]]
    assert "is no rotation" in raised(ValueError, "position_camera", rotation=double)
    assert "length 1" in raised(ValueError, "position_camera", rotation=[1, 1, 1, 1])
    assert "angle is a number" in raised(TypeError, "rotate_camera", "much")
    flat = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert "flattens" in raised(ValueError, "set_camera_keyframe", 1, flat)


@check
def clockwise_lifts_what_is_on_the_right():
    scene, camera = fresh()
    right = (2, 0, 0)
    before = seen(scene, camera, right)
    call("rotate_camera", math.pi / 2)
    x, y = seen(scene, camera, right)
    width, height = rendering.picture_size(scene)
    assert before[0] > width / 2 and near(before[1], height / 2, 0.1), before
    assert near(x, width / 2, 0.1) and y < height / 2, (x, y)
    # Turns add up, and are not lost when they are more than half a one.
    for angle in (2.0, 2.0, 2.0, 5 * math.pi):
        call("rotate_camera", angle)
    assert near(camera.rotation_euler.z, -(math.pi / 2 + 6 + 5 * math.pi)), camera.rotation_euler


@check
def orbits_do_not_wrap():
    for mode in ("XYZ", "ZYX", "QUATERNION", "AXIS_ANGLE"):
        scene, camera = fresh()
        camera.rotation_mode = mode
        for at in range(33):
            angle = at / 32 * 4 * math.pi
            place = [10 * math.cos(angle), 10 * math.sin(angle), 2]
            call("position_camera", location=place, look_at=[0, 0, 0])
            call("set_camera_keyframe", at)
        found = call("poses", range_of(0, 33))
        for at, pose in enumerate(found):
            angle = at / 32 * 4 * math.pi
            place = Vector((10 * math.cos(angle), 10 * math.sin(angle), 2))
            assert near([row[3] for row in pose][:3], place, 1e-3), (mode, at, pose)
            looks = -Vector([row[2] for row in pose][:3])
            assert near(looks, -place.normalized(), 1e-3), (mode, at)
        if mode in ("XYZ", "QUATERNION"):
            # Between two keyframes it still looks at the middle: nothing has turned round.
            for at in range(32):
                scene.frame_set(at, subframe=0.5)
                looks = camera.matrix_world.to_3x3() @ Vector((0, 0, -1))
                towards = -camera.matrix_world.translation.normalized()
                assert looks.dot(towards) > 0.99, (mode, at, looks.dot(towards))


@check
def keyframes_of_poses_come_back():
    scene, camera = fresh()
    poses = []
    for at in range(20):
        turn = Euler((0.1 * at, 0.7 * at, -0.9 * at)).to_matrix().to_4x4()
        poses.append(Matrix.Translation((at, -at, 2 * at)) @ turn)
        call("set_camera_keyframe", 3 * at, [list(row) for row in poses[-1]])
        assert near(call("camera_extrinsics"), poses[-1]), at
    call("set_current_frame", 6)
    assert near(call("camera_extrinsics"), poses[2])
    assert near(call("poses", [0, 57, 6]), [poses[0], poses[19], poses[2]])
    assert scene.frame_current == 6 and call("current_frame") == 6
    call("position_camera", location=[0, 0, 0])
    assert "is animated" in SESSION.warnings[0], SESSION.warnings


@check
def what_moved_the_camera_is_gone_and_it_stays():
    scene, camera = fresh()
    target = bpy.data.objects["Cube"]
    target.location, target.rotation_euler = (1, 2, 0.5), (0.2, 0.3, 0.4)
    camera.parent = target
    camera.constraints.new("TRACK_TO").target = bpy.data.objects["Light"]
    for frame, x in ((1, 0.0), (50, 8.0)):
        camera.location.x = x
        camera.keyframe_insert("location", frame=frame)
    camera.data.keyframe_insert("lens", frame=1)
    call("set_current_frame", 20)
    call("offset_camera", [0, 0, 0])
    assert "constraints" in SESSION.warnings[0] and "is animated" in SESSION.warnings[1]
    call("set_current_frame", 20)
    before = call("camera_extrinsics")
    call("unbind_camera")
    assert near(call("camera_extrinsics"), before)
    assert near(call("poses", [1, 50]), [before, before])
    assert camera.parent is None and not camera.constraints and camera.data.animation_data
    call("position_camera", location=[7, 7, 7])
    assert not SESSION.warnings, SESSION.warnings


@check
def keyframes_move_with_all_that_is_theirs():
    scene, _ = fresh()
    cube = animated(scene)
    scene.timeline_markers.new("here", frame=11)
    scene.frame_start = 1
    handles = [list(point.handle_left) for point in curve_of(cube, "location").keyframe_points]
    before = scene.render.motion_blur_shutter
    call("move_keyframes", scale=5, shift=-5)
    moved = {item["data_path"]: item["keyframes"] for item in call("iter_fcurves")}
    assert moved == {
        "location": [[0.0, 0.0], [50.0, 10.0]],
        "rotation_euler": [[0.0, 0.0], [50.0, 10.0]],
    }, moved
    after = [list(point.handle_left) for point in curve_of(cube, "location").keyframe_points]
    assert near(after, [[x * 5 - 5, y] for x, y in handles]), (handles, after)
    assert scene.timeline_markers["here"].frame == 50
    assert call("animation_range") == [0, 495, 1]
    assert near(scene.render.motion_blur_shutter, before / 5)
    for frame, x in ((0, 0), (25, 5), (50, 10)):
        call("set_current_frame", frame)
        assert near(cube.matrix_world.translation.x, x), (frame, cube.matrix_world)


@check
def the_range_is_scaled_as_half_open():
    scene, _ = fresh()
    animated(scene)
    call("move_keyframes", scale=5)
    assert call("animation_range") == [0, 500, 1]
    call("move_keyframes", scale=0.2, shift=3)
    assert call("animation_range") == [3, 103, 1]
    call("move_keyframes", shift=0.5)
    keys = call("iter_fcurves")[0]["keyframes"]
    assert near(keys, [[4.5, 0], [14.5, 10]]), keys


@check
def keyframes_that_would_leave_the_timeline_stay():
    scene, _ = fresh()
    animated(scene)
    before = (call("iter_fcurves"), call("animation_range"))
    assert "would become -100" in raised(ValueError, "move_keyframes", shift=-100)
    assert "would become" in raised(ValueError, "move_keyframes", scale=1e6)
    scene.frame_end = 1
    assert "would come to frame" in raised(ValueError, "move_keyframes", scale=4e5)
    scene.frame_end = 99
    assert "more than 0" in raised(ValueError, "move_keyframes", scale=-1)
    assert "more than 0" in raised(ValueError, "move_keyframes", scale=0)
    assert "finite" in raised(ValueError, "move_keyframes", shift=math.inf)
    assert (call("iter_fcurves"), call("animation_range")) == before


@check
def many_keyframes_move_quickly():
    scene, _ = fresh()
    cube = animated(scene)
    curve = curve_of(cube, "location")
    curve.keyframe_points.add(100_000)
    numbers = array.array("f", [one for at in range(100_002) for one in (at, 0.5)])
    curve.keyframe_points.foreach_set("co", numbers)
    curve.update()
    begun = time.monotonic()
    call("move_keyframes", scale=2)
    took = time.monotonic() - begun
    assert took < 2 and curve.keyframe_points[100_001].co.x == 200_002, took


@check
def what_does_not_move_is_told():
    scene, _ = fresh()
    cube = animated(scene)
    curve_of(cube, "location").modifiers.new("NOISE")
    call("move_keyframes", shift=1)
    assert SESSION.warnings == [
        f"curves have modifiers that count frames, which were not moved: "
        f"`{cube.animation_data.action.name}: location`"
    ], SESSION.warnings
    fresh()
    cube = animated(bpy.context.scene)
    data = cube.animation_data
    action, slot = data.action, getattr(data, "action_slot", None)
    strip = data.nla_tracks.new().strips.new("s", 1, action)
    if slot is not None:
        strip.action_slot = slot
    data.action = None
    call("move_keyframes", shift=1)
    assert SESSION.warnings[0].endswith("only the keyframes in their actions: `Cube`")


@check
def animations_stop_and_go_on():
    scene, _ = fresh()
    cube = animated(scene)
    call("set_current_frame", 6)
    assert near(cube.matrix_world.translation.x, 5)
    call("use_animations", False)
    call("set_current_frame", 11)
    assert near(cube.matrix_world.translation.x, 5), cube.matrix_world
    assert all(item["muted"] for item in call("iter_fcurves"))
    call("use_animations", True)
    assert near(cube.matrix_world.translation.x, 10), cube.matrix_world
    muted = {item["data_path"]: item["muted"] for item in call("iter_fcurves")}
    assert muted == {"location": False, "rotation_euler": True}, muted
    owners = {tuple(item["owners"]) for item in call("iter_fcurves")}
    assert owners == {("Cube",)}, owners
    # In a strip of the NLA as well.
    data = cube.animation_data
    action, slot = data.action, getattr(data, "action_slot", None)
    strip = data.nla_tracks.new().strips.new("s", 1, action)
    if slot is not None:
        strip.action_slot = slot
    data.action = None
    call("set_current_frame", 3)
    assert near(cube.matrix_world.translation.x, 2)
    call("use_animations", False)
    call("set_current_frame", 9)
    assert not near(cube.matrix_world.translation.x, 8), cube.matrix_world


@check
def two_things_of_one_action_are_told_apart():
    if not curves.LAYERED:
        return
    scene, _ = fresh()
    cube, light = animated(scene), bpy.data.objects["Light"]
    action = cube.animation_data.action
    light.animation_data_create().action = action
    light.animation_data.action_slot = action.slots.new("OBJECT", "Light")
    light.location.x = 3
    light.keyframe_insert("location", index=0, frame=4)
    for owner, curve in curves.every_curve():
        if owner.slot == "OBLight":
            curve.mute = True
    global SESSION
    SESSION = begin.begin("made up")
    call("use_animations", False)
    call("use_animations", True)
    muted = {(one["slot"], one["data_path"], one["muted"]) for one in call("iter_fcurves")}
    assert muted == {
        ("OBCube", "location", False),
        ("OBCube", "rotation_euler", True),
        ("OBLight", "location", True),
    }, muted
    call("move_keyframes", shift=10)
    keys = {one["slot"]: one["keyframes"] for one in call("iter_fcurves")}
    assert keys["OBLight"] == [[14, 3]] and keys["OBCube"][0][0] == 11, keys


@check
def ranges_frames_and_rates():
    scene, _ = fresh()
    call("set_animation_range", 10, 20, 3)
    assert call("animation_range") == [10, 20, 3]
    call("set_animation_range", start=500, stop=501)
    assert call("animation_range") == [500, 501, 3]
    call("set_animation_range", 0, 5, 1)
    assert call("animation_range") == [0, 5, 1]
    call("set_animation_range", stop=9.0)
    assert call("animation_range") == [0, 9, 1]
    assert "is empty" in raised(ValueError, "set_animation_range", start=9)
    assert "start is 0 to" in raised(ValueError, "set_animation_range", start=-1)
    assert "a whole number" in raised(TypeError, "set_animation_range", start=1.5)
    assert "step is 1 to" in raised(ValueError, "set_animation_range", step=0)
    assert call("animation_range") == [0, 9, 1]
    scene.render.fps, scene.render.fps_base = 30, 1.001
    assert near(call("original_fps"), 29.97003)
    call("set_current_frame", -7)
    assert call("current_frame") == -7
    assert "-1048574 to" in raised(ValueError, "set_current_frame", 1 << 21)


@check
def a_thousand_poses_are_quick():
    scene, _ = fresh()
    animated(scene)
    begun = time.monotonic()
    assert len(call("poses", range_of(0, 1000))) == 1000
    assert time.monotonic() - begun < 3, time.monotonic() - begun
    assert "a frame is a whole number" in raised(TypeError, "poses", ["x"])
    assert "a list of whole numbers" in raised(TypeError, "poses", 3)


@check
def sizes_and_formats():
    scene, _ = fresh()
    render, settings = scene.render, scene.render.image_settings
    render.resolution_percentage = 50
    call("set_resolution", width=300)
    size = (render.resolution_x, render.resolution_y, render.resolution_percentage)
    assert size == (300, 540, 100), size
    call("set_resolution", 120, 160)
    assert (render.resolution_x, render.resolution_y) == (160, 120)
    assert "height is 4 to" in raised(ValueError, "set_resolution", 0)
    call("image_settings", "open_exr", 32, "rgb", "dwaa", 80)
    now = (settings.file_format, settings.color_depth, settings.color_mode, settings.exr_codec)
    assert now == ("OPEN_EXR", "32", "RGB", "DWAA") and settings.quality == 80, now
    says = raised(ValueError, "image_settings", "PNG", bit_depth=32)
    assert says == "there is no bit_depth `32` of PNG: it takes 8, 16", says
    now = (settings.file_format, settings.color_depth, settings.color_mode, settings.exr_codec)
    assert now == ("OPEN_EXR", "32", "RGB", "DWAA"), now
    assert "did you mean `PNG`" in raised(ValueError, "image_settings", "PNGG")
    assert "is a movie" in raised(ValueError, "image_settings", "ffmpeg")
    assert "has no codec" in raised(ValueError, "image_settings", "PNG", codec="ZIP")
    assert "has no quality" in raised(ValueError, "image_settings", "PNG", quality=3)
    assert settings.file_format == "OPEN_EXR"
    files = call("frame_files", "000012")
    assert files["file_path"] == "frames/frame_000012.exr", files
    for name, ending in (("OPEN_EXR_MULTILAYER", "exr"), ("jpg", "jpg"), ("PNG", "png")):
        call("image_settings", name)
        files = call("frame_files", "000012")
        assert files["file_path"] == f"frames/frame_000012.{ending}", files
    if hasattr(settings, "media_type"):
        settings.media_type = "VIDEO"
    settings.file_format = "FFMPEG"
    naming.NAMERS.append(lambda _session, number: {"more": f"more_{number}"})
    files = call("frame_files", "7")
    naming.NAMERS.pop()
    assert files == {"file_path": "frames/frame_7.png", "more": "more_7"}, files
    says = raised(ValueError, "image_settings", "PNG", color_mode="CMYK")
    assert "it takes BW, RGB, RGBA" in says and settings.file_format == "FFMPEG", says


@check
def cycles_is_set_and_says_what_it_uses():
    scene, _ = fresh()
    cycles = scene.cycles
    cpu = next(name for kind, name, _ in host.cycles_devices() if kind == "CPU")
    before = (cycles.use_denoising, cycles.seed, cycles.use_adaptive_sampling)
    assert call("cycles_settings", device="cpu", samples=7, bounces=3) == [cpu]
    assert (cycles.samples, cycles.max_bounces) == (7, 3)
    assert (cycles.use_denoising, cycles.seed, cycles.use_adaptive_sampling) == before
    call("cycles_settings", threshold=0.05, seed=9, persistent_data=True, denoise=False)
    assert near(cycles.adaptive_threshold, 0.05) and cycles.use_adaptive_sampling
    assert cycles.seed == 9 and not cycles.use_denoising and SESSION.persistent_data is True
    call("cycles_settings", threshold=0)
    assert not cycles.use_adaptive_sampling
    order = frames.before(SESSION, {"frame": 4, "device": "CPU", "persistent_data": None})
    assert order == {"frame": 4, "device": "CPU", "persistent_data": True}, order
    says = raised(RuntimeError, "cycles_settings", device="cuda", samples=99)
    assert "was given CPU and cannot use CUDA" in says and cycles.samples == 7, says
    assert "one of cpu, cuda" in raised(ValueError, "cycles_settings", device="gpu")
    assert "samples is 1 to" in raised(ValueError, "cycles_settings", seed=1, samples=0)
    assert cycles.seed == 9
    assert "true or false" in raised(TypeError, "cycles_settings", denoise=1)
    if not host.has_denoiser():
        assert "without a denoiser" in raised(RuntimeError, "cycles_settings", denoise=True)
    SESSION.given = ("CUDA", None)
    says = raised(RuntimeError, "cycles_settings", device="OptiX")
    assert "sees none" in says or "was built without OPTIX" in says, says
    assert SESSION.compute == "CPU"
    scene.render.engine = "BLENDER_WORKBENCH"
    assert "rendered with BLENDER_WORKBENCH" in raised(RuntimeError, "cycles_settings")


@check
def motion_blur_of_both_engines():
    scene, _ = fresh()
    for on in (True, False):
        call("use_motion_blur", on)
        assert scene.render.use_motion_blur is on
        assert getattr(scene.eevee, "use_motion_blur", on) is on
    assert "true or false" in raised(TypeError, "use_motion_blur", "yes")


@check
def addons_by_any_name():
    fresh()
    assert call("load_addons", ["IO_Curve_SVG"]) == ["io_curve_svg"]
    label = "Scalable Vector Graphics (SVG) 1.1 format"
    assert call("load_addons", label) == ["io_curve_svg"]
    says = raised(ValueError, "load_addons", ["io_curve_svgg"])
    assert "has no add-on `io_curve_svgg`: did you mean `io_curve_svg`" in says, says


@check
def files_are_saved_as_they_are():
    scene, _ = fresh()
    image = bpy.data.images.new("relative", 4, 4)
    image.source, image.filepath = "FILE", "//textures/wood.png"
    image.use_fake_user = True
    with tempfile.TemporaryDirectory() as scratch:
        SESSION.scratch = os.path.join(scratch, "call")
        scene.frame_end = 77
        assert call("save_file", "sub/changed") == "sub/changed.blend"
        assert call("save_file") == "scene.blend"
        assert not bpy.data.filepath, "the open file is another one now"
        for bad in ("/etc/x.blend", "../x.blend", "", "a//b", "a/"):
            assert "is no name for a file" in raised(ValueError, "save_file", bad), bad
        path = os.path.join(SESSION.scratch, "sub/changed.blend")
        bpy.ops.wm.open_mainfile(filepath=path, load_ui=False)
    assert bpy.data.images["relative"].filepath == "//textures/wood.png"
    assert bpy.context.scene.frame_end == 77


@check
def wrong_calls_say_what_would_have_been_right():
    fresh()
    says = raised(AttributeError, "set_resolutoin")
    assert says.startswith("there is no operation `set_resolutoin`: did you mean `set_resolution`")
    says = raised(TypeError, "set_resolution", heigth=3)
    assert says.endswith("call it as set_resolution(height=None, width=None)"), says
    says = raised(TypeError, "offset_camera")
    assert "'offset'" in says and says.endswith("offset_camera(offset)"), says


SOURCE = '''
from dataclasses import dataclass
from math import sqrt

@dataclass
class Kept:
    number: int

def twice(number):
    """Without the session."""
    return _doubled(Kept(number).number)

def _doubled(number):
    return 2 * number

def objects(session, kind="MESH"):
    session.warn("counted only once")
    return sorted(one.name for one in session.scene.objects if one.type == kind)

def fails():
    return 1 / 0
'''


@check
def extensions_become_operations():
    fresh()
    assert call("extend", "mine.py", SOURCE) == ["fails", "objects", "twice"]
    assert call("twice", 4) == 8 and call("objects") == ["Cube"]
    assert SESSION.warnings == ["counted only once"] and call("objects", kind="LIGHT") == ["Light"]
    assert "did you mean `twice`" in raised(AttributeError, "twicee")
    assert raised(TypeError, "objects", 1, 2).endswith("call it as objects(kind='MESH')")
    assert raised(TypeError, "twice").endswith("call it as twice(number)")
    try:
        call("fails")
    except ZeroDivisionError:
        trace = traceback.format_exc()
        assert 'File "mine.py", line 21, in fails' in trace and "return 1 / 0" in trace, trace
    says = raised(ValueError, "extend", "other.py", "def camera_info(): pass")
    assert says == "`camera_info` is an operation already: call the function otherwise", says
    assert "already" in raised(ValueError, "extend", "other.py", "def render(): pass")
    says = raised(ValueError, "extend", "other.py", "def twice(): pass")
    assert "is an operation of `mine.py` already" in says, says
    says = raised(SyntaxError, "extend", "other.py", "def half(:\n    pass")
    assert "other.py, line 1" in says, says
    assert "no function" in raised(ValueError, "extend", "other.py", "from math import sqrt")
    raised(NameError, "extend", "other.py", "unknown")
    # Sent again, what is no longer there is gone.
    assert call("extend", "mine.py", "def thrice(number): return 3 * number") == ["thrice"]
    assert call("thrice", 2) == 6 and "no operation" in raised(AttributeError, "twice")


@check
def the_examples_work():
    fresh()
    cube = bpy.data.objects["Cube"]
    cube.location, cube.scale = (1, 0, 0), (1, 2, 3)
    cube.modifiers.new("more", "ARRAY").relative_offset_displace = (1, 0, 0)
    image = bpy.data.images.new("lost", 4, 4)
    image.source, image.filepath = "FILE", "/nowhere/lost.png"
    folder = os.path.join(sys.argv[-1], "../../../examples/python/extensions")
    for name in ("bounding_box.py", "missing_textures.py"):
        with open(os.path.join(folder, name)) as file:
            assert call("extend", name, file.read()) == [name.removesuffix(".py")]
    box = call("bounding_box", ["Cube"])
    assert near(box["min"], (0, -2, -3)) and near(box["max"], (4, 2, 3)), box
    assert near(call("bounding_box")["center"], (2, 0, 0))
    assert "no object called Nobody" in raised(ValueError, "bounding_box", ["Nobody"])
    assert call("missing_textures") == []
    lost = [{"image": "lost", "path": "/nowhere/lost.png", "users": 0}]
    assert call("missing_textures", unused=True) == lost


@check
def answers_over_the_socket_carry_warnings_and_errors():
    fresh()
    with tempfile.TemporaryDirectory() as folder:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.path.join(folder, "socket"))
        listener.listen()
        answers = []

        def read():
            with listener.accept()[0].makefile() as stream:
                answers.extend(json.loads(stream.readline()) for _ in range(4))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        link = Link(os.path.join(folder, "socket"))
        call("extend", "mine.py", SOURCE + "\ndef leave():\n    raise SystemExit(3)\n")
        orders = (("objects", {}), ("ping", {}), ("fails", {}), ("leave", {}))
        for number, (op, args) in enumerate(orders):
            order = {"id": number, "op": op, "args": args, "scratch": folder}
            calls.call(link, SESSION, {**order, "device": "CPU", "device_pci": None})
        reader.join(10)
    first, second, third, fourth = answers
    assert first == {
        **{"is": "returned", "id": 0, "value": ["Cube"]},
        "warnings": ["counted only once"],
    }, first
    assert second["warnings"] == [] and second["value"] is None
    assert (third["is"], third["kind"], third["message"]) == (
        *("raised", "ZeroDivisionError"),
        "division by zero",
    )
    assert "mine.py" in third["traceback"]
    assert (fourth["is"], fourth["kind"]) == ("raised", "SystemExit")
    assert SESSION.given == ("CPU", None)


@check
def looks_change_nothing():
    assert {name for name in LOOKS} <= set(OPERATIONS)
    scene, camera = fresh()
    animated(scene)
    call("set_current_frame", 3)
    before = (list(camera.matrix_world), scene.frame_current, call("iter_fcurves"))
    for name in ("camera_extrinsics", "camera_intrinsics", "camera_info", "animation_range"):
        call(name)
    call("poses", [1, 50])
    call("frame_files", "1")
    assert (list(camera.matrix_world), scene.frame_current, call("iter_fcurves")) == before


def curve_of(thing, path):
    action = thing.animation_data.action
    return next(curve for _, curve in curves.curves_of(action) if curve.data_path == path)


def range_of(start, stop):
    return list(range(start, stop))


for one in CHECKS:
    try:
        one()
    except BaseException:
        traceback.print_exc()
        print("failed:", one.__name__.replace("_", " "))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
    print("well:", one.__name__.replace("_", " "), flush=True)
print("all is well", flush=True)
os._exit(0)
