"""Opening a .blend file, and saying what is missing of it.

Blender calls a file with missing libraries and textures opened, and after a failed open it keeps
the old file, which the next render would then show. Neither may pass for success.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable

import bpy

from worker.link import Refused, clip

WARNINGS_MAX = 40


def open_file(path: str, allow_missing: bool) -> tuple[float, list[str]]:
    """Opens without running anything that the file carries. Seconds, and warnings for people."""
    begun = time.monotonic()
    # Whatever goes wrong from here on, nothing of the file before is left to be rendered.
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    failed = None
    try:
        bpy.ops.wm.open_mainfile(filepath=path, load_ui=False, use_scripts=False)
    except RuntimeError as error:
        failed = error
    # What Blender reports while it opens a file, a missing library for one, is raised as well.
    if not bpy.data.filepath or not os.path.samefile(bpy.data.filepath, path):
        why = explain(failed) if failed else "Blender does not say why"
        raise Refused("scene", f"`{path}` does not open: {why}")
    refuse_newer(path)
    missing = missing_links()
    if missing and not allow_missing:
        raise Refused("scene", f"`{path}` links to what is not there: {'; '.join(missing)}")
    warnings = missing + missing_files() + scripts_not_run()
    return time.monotonic() - begun, bounded(warnings)


def explain(error: RuntimeError) -> str:
    text = str(error).strip()
    if "Missing DNA block" in text:
        return "the file is cut short"
    if "not a blend file" in text or "format is not supported" in text:
        return (
            f"it is not a .blend file, or one of a Blender much newer than {bpy.app.version_string}"
        )
    return text.removeprefix("Error: ")


def refuse_newer(path: str) -> None:
    saved = tuple(bpy.data.version[:2])
    if saved > tuple(bpy.app.version[:2]):
        raise Refused(
            "scene",
            f"`{path}` was saved by Blender {saved[0]}.{saved[1]}, and Blender "
            f"{bpy.app.version_string} would lose part of it: render it with a newer one",
        )


def missing_links() -> list[str]:
    """Libraries that are not there, and data that is no longer in its library."""
    found: list[str] = []
    for library in bpy.data.libraries:
        where = bpy.path.abspath(library.filepath)
        if getattr(library, "is_missing", False) or not os.path.exists(where):
            found.append(f"library {where}")
    if len(bpy.data.libraries) > len(found) and hasattr(bpy.types.ID, "is_missing"):
        lost: dict[str, list[str]] = {}
        for block in every_linked_block():
            if block.is_missing and not block.library.is_missing:
                lost.setdefault(block.library.filepath, []).append(block.name)
        for library, names in lost.items():
            found.append(f"{listed(names)} of library {bpy.path.abspath(library)}")
    return found


def every_linked_block() -> Iterable[bpy.types.ID]:
    for prop in bpy.data.bl_rna.properties:
        if prop.type == "COLLECTION" and prop.identifier != "libraries":
            for block in getattr(bpy.data, prop.identifier):
                if block.library is not None:
                    yield block


def missing_files() -> list[str]:
    """Textures, sounds, caches, fonts … that the file names and that are not there."""
    libraries = {os.path.normpath(bpy.path.abspath(one.filepath)) for one in bpy.data.libraries}
    paths = set(bpy.utils.blend_paths(absolute=True, packed=False, local=False))
    return [
        f"missing file: {path}"
        for path in sorted(paths)
        if os.path.normpath(path) not in libraries and not is_there(path)
    ]


def is_there(path: str) -> bool:
    """Also for sequences and UDIMs, of which Blender names the first file or a pattern."""
    if os.path.exists(path):
        return True
    folder, name = os.path.split(path)
    parts = re.split(r"(\d+|<UDIM>|<UVTILE>)", name)
    if len(parts) == 1:
        return False
    # Every second part is a number or a token: any number does.
    pattern = "".join(r"\w+" if at % 2 else re.escape(part) for at, part in enumerate(parts))
    try:
        return any(re.fullmatch(pattern, entry) for entry in os.listdir(folder))
    except OSError:
        return False


def scripts_not_run() -> list[str]:
    if not bpy.app.autoexec_fail:
        return []
    return [
        "Python in the file was not run, so what depends on it stands still: "
        f"{bpy.app.autoexec_fail_message}"
    ]


def listed(names: Iterable[str]) -> str:
    """A few names for a sentence."""
    names = list(names)
    shown = ", ".join(f"`{name}`" for name in names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown


def bounded(warnings: list[str]) -> list[str]:
    more = len(warnings) - WARNINGS_MAX
    kept = [clip(one) for one in warnings[:WARNINGS_MAX]]
    return [*kept, f"and {more} warnings more"] if more > 0 else kept
