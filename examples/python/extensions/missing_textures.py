"""An extension: images that the scene uses and whose files are not there.

Its function does not ask for the session, so it is called with its arguments alone.
"""

from __future__ import annotations

import os
import re

import bpy


def missing_textures(unused: bool = False) -> list[dict]:
    """Name, path and users of every image without a file. Packed and generated images need none.
    With `unused`, also images that nothing in the file uses."""
    found = []
    for image in bpy.data.images:
        if image.source not in {"FILE", "SEQUENCE", "MOVIE", "TILED"} or image.packed_file:
            continue
        if not image.users and not unused:
            continue
        path = bpy.path.abspath(image.filepath, library=image.library)
        if not _is_there(path):
            found.append({"image": image.name, "path": path, "users": image.users})
    return found


def _is_there(path: str) -> bool:
    """Also by any tile of a UDIM texture."""
    folder, name = os.path.split(path)
    if "<UDIM>" not in name and "<UVTILE>" not in name:
        return os.path.exists(path)
    parts = re.split("<UDIM>|<UVTILE>", name)
    pattern = r"\w+".join(re.escape(part) for part in parts)
    return os.path.isdir(folder) and any(re.fullmatch(pattern, one) for one in os.listdir(folder))
