"""Frames, keyframes and what moves, in all forms that actions have."""

import array
import math
import time

import bpy
from stage import animated, call, check, curve_of, farm, frames_of, fresh, near, raised
from worker.session import curves


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
    assert scene.render.motion_blur_shutter == before
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
    assert farm.session.warnings == [
        f"curves have modifiers that count frames, which were not moved: "
        f"`{cube.animation_data.action.name}: location`"
    ], farm.session.warnings
    fresh()
    cube = animated(bpy.context.scene)
    data = cube.animation_data
    action, slot = data.action, getattr(data, "action_slot", None)
    strip = data.nla_tracks.new().strips.new("s", 1, action)
    if slot is not None:
        strip.action_slot = slot
    data.action = None
    call("move_keyframes", shift=1)
    assert farm.session.warnings[0].endswith("only the keyframes in their actions: `Cube`")


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
    farm.begin()
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
    assert len(call("poses", frames_of(0, 1000))) == 1000
    assert time.monotonic() - begun < 3, time.monotonic() - begun
    assert "a frame is a whole number" in raised(TypeError, "poses", ["x"])
    assert "a list of whole numbers" in raised(TypeError, "poses", 3)


@check
def motion_blur_of_both_engines():
    scene, _ = fresh()
    for on in (True, False):
        call("use_motion_blur", on)
        assert scene.render.use_motion_blur is on
        assert getattr(scene.eevee, "use_motion_blur", on) is on
    assert "true or false" in raised(TypeError, "use_motion_blur", "yes")
