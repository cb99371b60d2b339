"""Calls, right and wrong ones, and extensions."""

import json
import os
import socket
import sys
import tempfile
import threading
import traceback

import bpy
from stage import animated, call, check, farm, fresh, near, raised
from worker.link import Link
from worker.session import calls
from worker.session.state import LOOKS, OPERATIONS

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
def wrong_calls_say_what_would_have_been_right():
    fresh()
    says = raised(AttributeError, "set_resolutoin")
    assert says.startswith("there is no operation `set_resolutoin`: did you mean `set_resolution`")
    says = raised(TypeError, "set_resolution", heigth=3)
    assert says.endswith("call it as set_resolution(height=None, width=None)"), says
    says = raised(TypeError, "offset_camera")
    assert "'offset'" in says and says.endswith("offset_camera(offset)"), says


@check
def extensions_become_operations():
    fresh()
    assert call("extend", "mine.py", SOURCE) == ["fails", "objects", "twice"]
    assert call("twice", 4) == 8 and call("objects") == ["Cube"]
    assert farm.session.warnings == ["counted only once"] and call("objects", kind="LIGHT") == [
        "Light"
    ]
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
            calls.call(link, farm.session, {**order, "device": "CPU", "device_pci": None})
        reader.join(10)
    first, second, third, fourth = answers
    assert first == {
        "is": "returned",
        "id": 0,
        "value": ["Cube"],
        "warnings": ["counted only once"],
    }, first
    assert second["warnings"] == [] and second["value"] is None
    assert (third["is"], third["kind"], third["message"]) == (
        *("raised", "ZeroDivisionError"),
        "division by zero",
    )
    assert "mine.py" in third["traceback"]
    assert (fourth["is"], fourth["kind"]) == ("raised", "SystemExit")
    assert farm.session.given == ("CPU", None)


@check
def looks_change_nothing():
    assert set(OPERATIONS) >= LOOKS
    scene, camera = fresh()
    animated(scene)
    call("set_current_frame", 3)
    before = (list(camera.matrix_world), scene.frame_current, call("iter_fcurves"))
    for name in ("camera_extrinsics", "camera_intrinsics", "camera_info", "animation_range"):
        call(name)
    call("poses", [1, 50])
    call("frame_files", "1")
    assert (list(camera.matrix_world), scene.frame_current, call("iter_fcurves")) == before
