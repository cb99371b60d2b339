"""Small real files for scenes to name, and where they go."""

import contextlib
import os
import struct
import sys
import wave
import zlib

import bpy

FOLDER = os.path.realpath(sys.argv[-1])
VERSION = bpy.app.version[:2]


def path(name: str) -> str:
    """The absolute path of a name in the folder; its directory exists afterwards."""
    full = os.path.join(FOLDER, name)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    return full


def touch(name: str, content: bytes = b"not a real one") -> str:
    with open(path(name), "wb") as file:
        file.write(content)
    return path(name)


def png(name: str) -> str:
    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0\x40\x80\xc0")
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return touch(name, b"\x89PNG\r\n\x1a\n" + chunks)


def wav(name: str) -> str:
    with wave.open(path(name), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\0\0" * 800)
    return path(name)


def font(name: str) -> str:
    folder = bpy.utils.system_resource("DATAFILES", path="fonts")
    fonts = [os.path.join(folder, entry) for entry in os.listdir(folder)]
    smallest = min(fonts, key=os.path.getsize)
    with open(smallest, "rb") as file:
        return touch(name, file.read())


def new_file() -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)


def save(name: str, compress: bool = False) -> str:
    """Saves with every path left as the script wrote it."""
    bpy.ops.wm.save_as_mainfile(filepath=path(name), relative_remap=False, compress=compress)
    return path(name)


def reopen(name: str) -> None:
    """Opens a file. A broken library is an error to Blender, although it opens the file."""
    with contextlib.suppress(RuntimeError):
        bpy.ops.wm.open_mainfile(filepath=path(name))
    assert bpy.data.filepath == path(name), f"{name} did not open"


def link(library: str, **names: list) -> list:
    """Links datablocks by name: `link(path, objects=["Cube"])`."""
    with bpy.data.libraries.load(library, link=True, relative=True) as (_, into):
        for kind, wanted in names.items():
            setattr(into, kind, wanted)
    return [datablock for kind in names for datablock in getattr(into, kind)]


def mesh_object(name: str):
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata([(0, 0, 0), (1, 0, 0), (0, 1, 0)], [], [(0, 1, 2)])
    made = bpy.data.objects.new(name, mesh)
    bpy.context.scene.collection.objects.link(made)
    return made


def strips_of(scene):
    """The strips of a scene's sequencer, by whichever name this version has for them."""
    editor = scene.sequence_editor or scene.sequence_editor_create()
    return editor.strips if hasattr(editor, "strips") else editor.sequences


def color_strip(strips, name: str):
    common = {"name": name, "type": "COLOR", "channel": 1, "frame_start": 1}
    try:
        return strips.new_effect(**common, length=8)
    except TypeError:
        return strips.new_effect(**common, frame_end=9)


def compositor(scene):
    """The node tree of a scene's compositor, switched on."""
    if VERSION >= (5, 0):
        scene.compositing_node_group = bpy.data.node_groups.new("Comp", "CompositorNodeTree")
        return scene.compositing_node_group
    scene.use_nodes = True
    return scene.node_tree
