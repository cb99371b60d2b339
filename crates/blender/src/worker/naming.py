"""Where a shot's files go: a scratch directory of its own.

Blender names the files itself, so that they are called as people know it from Blender. Below the
scratch directory `main` gets what the scene's output path names, `extra` what File Output nodes
write; whatever lies there afterwards is the shot's output.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import bpy

from worker.overrides import Overrides

MAIN = "main"
EXTRA = "extra"
TEMPLATES = bpy.app.version >= (4, 5)
"""From 4.5 on output paths are templates, in which braces mean something."""


def name_picture(
    scene: bpy.types.Scene, scratch: str, pattern: str, overrides: Overrides
) -> list[str]:
    """Directs the scene's picture into scratch. Warnings for people."""
    render = scene.render
    overrides.set(render, "filepath", literal(os.path.join(scratch, MAIN, pattern)))
    overrides.set(render, "use_overwrite", True)
    overrides.set(render, "use_placeholder", False)
    if not render.is_movie_format:
        return []
    settings = render.image_settings
    was = settings.file_format
    overrides.remember(settings, "color_mode", "color_depth", "file_format")
    if hasattr(settings, "media_type"):
        overrides.set(settings, "media_type", "IMAGE")
    overrides.set(settings, "file_format", "PNG")
    return [
        f"the scene writes a movie ({was}), but frames of a farm come one by one: "
        "they were rendered as PNG"
    ]


def literal(path: str) -> str:
    """The path as Blender's output properties have to spell it."""
    return path.replace("{", "{{").replace("}", "}}") if TEMPLATES else path


def expand(pattern: str, frame: int) -> str:
    """The pattern with its frame, for frames that Blender does not number: negative ones."""
    folder, name = os.path.split(pattern)
    runs = list(re.finditer("#+", name))
    if not runs:
        return f"{pattern}{number(frame, 4)}"
    start, end = runs[-1].span()
    return os.path.join(folder, name[:start] + number(frame, end - start) + name[end:])


def number(frame: int, digits: int) -> str:
    return f"{'-' if frame < 0 else ''}{abs(frame):0{digits}d}"


def redirect_file_outputs(scene: bpy.types.Scene, scratch: str, overrides: Overrides) -> None:
    """Sends what File Output nodes write below scratch, each to a folder named like its own."""
    folders: dict[str, str] = {}
    for node in compositing_nodes(scene):
        if node.bl_idname != "CompositorNodeOutputFile":
            continue
        if hasattr(node, "directory"):
            folder = own_folder(node.directory, folders)
            overrides.set(node, "directory", below(scratch, folder) + "/")
            continue
        if node.format.file_format == "OPEN_EXR_MULTILAYER":
            # The path of these is that of a file, not of a folder.
            base, name = os.path.split(node.base_path.replace("\\", "/"))
            folder = own_folder(f"{base}/", folders)
            overrides.set(node, "base_path", os.path.join(below(scratch, folder), clean(name)))
            continue
        folder = own_folder(node.base_path, folders)
        overrides.set(node, "base_path", below(scratch, folder) + "/")
        for slot in node.file_slots:
            overrides.set(slot, "path", "/".join(parts_of(slot.path)) or "Image")


def compositing_nodes(scene: bpy.types.Scene) -> Iterator[bpy.types.Node]:
    """Every node that composites the scene, those inside groups too."""
    seen: set[str] = set()
    trees = [compositing_tree(scene)]
    while trees:
        tree = trees.pop()
        if tree is None or tree.name_full in seen:
            continue
        seen.add(tree.name_full)
        for node in tree.nodes:
            yield node
            trees.append(getattr(node, "node_tree", None))


def compositing_tree(scene: bpy.types.Scene) -> bpy.types.NodeTree | None:
    if hasattr(scene, "compositing_node_group"):
        return scene.compositing_node_group
    return scene.node_tree if scene.use_nodes else None


def below(scratch: str, folder: str) -> str:
    # The folder may hold a template of the artist's; the path to it does not.
    return os.path.join(literal(os.path.join(scratch, EXTRA)), folder).rstrip("/")


def own_folder(path: str, folders: dict[str, str]) -> str:
    """The relative part of a node's path, or the last folder of an absolute one. Two paths that
    come to the same folder get two."""
    if path not in folders:
        parts = parts_of(path)
        folder = "/".join(parts if is_relative(path) else parts[-1:])
        taken = set(folders.values())
        count = 2
        unique = folder
        while unique in taken:
            unique = f"{folder or 'files'}_{count}"
            count += 1
        folders[path] = unique
    return folders[path]


def is_relative(path: str) -> bool:
    """In Blender `//` begins what is relative to the file, `/` or `C:` what is absolute."""
    return path.startswith("//") or not (path.startswith(("/", "\\")) or path[1:2] == ":")


def parts_of(path: str) -> list[str]:
    """The components of a path, without those that climb and with none that no name can have."""
    parts = path.replace("\\", "/").split("/")
    return [clean(part) for part in parts if part.strip() not in ("", ".", "..")]


def clean(part: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f:\\/]", "_", part)
