"""A scene that is known, a session on it, and calls as they come over the wire."""

import json

import bpy
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector
from worker import picture
from worker.session import begin, calls, curves, values

CHECKS = []


class Farm:
    """Of one session."""

    def begin(self):
        self.session = begin.begin("made up")


farm = Farm()


def check(function):
    """What is known, and has to be so. They run in the order in which they stand."""
    CHECKS.append(function)
    return function


def call(name, *positional, **args):
    """As it comes over the wire: through JSON both ways."""
    sent = json.loads(json.dumps({"$args": list(positional), **args}))
    farm.session.warnings.clear()
    return json.loads(
        json.dumps(values.encode(calls.perform(farm.session, name, values.decode(sent))))
    )


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
    return len(one) == len(other) and all(
        near(a, b, within) for a, b in zip(one, other, strict=True)
    )


def fresh():
    """The default cube, a camera on the z axis above it, and a new session."""
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    camera = scene.camera
    camera.location, camera.rotation_euler = (0, 0, 10), (0, 0, 0)
    bpy.context.view_layer.update()
    farm.begin()
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
    farm.begin()
    return cube


def seen(scene, camera, point):
    """Where in the picture, in pixels, by Blender's own Python has it."""
    x, y, _ = world_to_camera_view(scene, camera, Vector(point))
    width, height = picture.picture_size(scene)
    return x * width, (1 - y) * height


def curve_of(thing, path):
    action = thing.animation_data.action
    return next(curve for _, curve in curves.curves_of(action) if curve.data_path == path)


def frames_of(start, stop):
    return list(range(start, stop))
