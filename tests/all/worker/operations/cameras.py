"""The camera: it is where it is told to be, and sees what it is said to."""

import array
import math
import os
import random
import tempfile

import bpy
from mathutils import Euler, Matrix, Vector
from stage import call, check, farm, frames_of, fresh, near, raised, seen
from worker import picture
from worker.session import values


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
def pictures_show_points_where_the_matrices_say():
    """A small lamp at a known place, rendered: its middle in the picture."""
    for settings in (
        *({}, {"shift_x": 0.15, "shift_y": -0.1}, {"aspect": 1.6}, {"aspect": 0.7}),
        *(
            {"crop": (0.33, 0.88, 0.21, 0.77)},
            {"crop": (0.29, 0.875, 0.1, 0.7)},
            {"percent": 67},
            {"mirrored": True},
        ),
    ):
        scene, camera = fresh()
        place = Vector((0.9, 0.35, 0.2))
        light_only(scene, place)
        call("set_resolution", 60, 100)
        call("image_settings", "OPEN_EXR", bit_depth=32)
        call("cycles_settings", samples=32, denoise=False)
        arrange(scene, camera, settings)
        x, y, z = Matrix(call("camera_extrinsics")).inverted() @ place
        u, v, w = Matrix(call("camera_intrinsics")) @ Vector((x, -y, -z))
        shown = middle_of(scene)
        assert near((u / w, v / w), shown, 0.1), (settings, (u / w, v / w), shown)


def light_only(scene, place):
    """Nothing but the cube, small and shining."""
    lamp = bpy.data.objects["Cube"]
    lamp.location, lamp.scale = place, (0.06, 0.06, 0.06)
    bpy.data.objects.remove(bpy.data.objects["Light"])
    scene.world = None
    shining = bpy.data.materials.new("shining")
    shining.use_nodes = True
    nodes, links = shining.node_tree.nodes, shining.node_tree.links
    emission = nodes.new("ShaderNodeEmission")
    links.new(emission.outputs[0], nodes["Material Output"].inputs["Surface"])
    lamp.data.materials[0] = shining


def arrange(scene, camera, settings):
    render = scene.render
    camera.rotation_euler = (0.05, 0.08, 0.3)
    camera.data.shift_x = settings.get("shift_x", 0)
    camera.data.shift_y = settings.get("shift_y", 0)
    tall = settings.get("aspect", 1)
    # Neither can be less than 1.
    render.pixel_aspect_x, render.pixel_aspect_y = (1, tall) if tall > 1 else (1 / tall, 1)
    render.resolution_percentage = settings.get("percent", 100)
    camera.scale.x = -1 if "mirrored" in settings else 1
    if "crop" in settings:
        render.use_border = render.use_crop_to_border = True
        render.border_min_x, render.border_max_x = settings["crop"][:2]
        render.border_min_y, render.border_max_y = settings["crop"][2:]


def middle_of(scene):
    """Of all light in a picture of the scene, in pixels from its upper left corner."""
    with tempfile.TemporaryDirectory() as folder:
        scene.render.filepath = os.path.join(folder, "seen.exr")
        bpy.ops.render.render(write_still=True)
        image = bpy.data.images.load(scene.render.filepath)
        wide, high = image.size
        assert (wide, high) == picture.picture_size(scene), (wide, high)
        red = list(image.pixels)[::4]
    light = sum(red)
    assert light > 0, "the picture is black"
    across = sum(value * (at % wide + 0.5) for at, value in enumerate(red)) / light
    up = sum(value * (at // wide + 0.5) for at, value in enumerate(red)) / light
    return across, high - up


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
    assert not farm.session.warnings, farm.session.warnings


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
    width, height = picture.picture_size(scene)
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
        found = call("poses", frames_of(0, 33))
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
    fresh()
    poses = []
    for at in range(20):
        turn = Euler((0.1 * at, 0.7 * at, -0.9 * at)).to_matrix().to_4x4()
        poses.append(Matrix.Translation((at, -at, 2 * at)) @ turn)
        call("set_camera_keyframe", 3 * at, [list(row) for row in poses[-1]])
        assert near(call("camera_extrinsics"), poses[-1]), at
    call("set_current_frame", 6)
    assert near(call("camera_extrinsics"), poses[2])
    assert near(call("poses", [0, 57, 6]), [poses[0], poses[19], poses[2]])
    assert bpy.context.scene.frame_current == 6 and call("current_frame") == 6
    # Whoever keys a path knows that it is one.
    call("position_camera", location=[0, 0, 0])
    assert farm.session.warnings == [], farm.session.warnings
    farm.session.keyed.clear()
    call("position_camera", location=[0, 0, 1])
    assert "is animated" in farm.session.warnings[0], farm.session.warnings


@check
def what_moved_the_camera_is_gone_and_it_stays():
    _, camera = fresh()
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
    assert "constraints" in farm.session.warnings[0] and "is animated" in farm.session.warnings[1]
    call("set_current_frame", 20)
    before = call("camera_extrinsics")
    call("unbind_camera")
    assert near(call("camera_extrinsics"), before)
    assert near(call("poses", [1, 50]), [before, before])
    assert camera.parent is None and not camera.constraints and camera.data.animation_data
    call("position_camera", location=[7, 7, 7])
    assert not farm.session.warnings, farm.session.warnings
