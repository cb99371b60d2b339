"""Where outputs are saved: below a folder of the user's, whatever lies there."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from .errors import GrangeError


def below(root: str | os.PathLike[str], name: str) -> Path:
    """The path of an output below a folder, whose parents are made.

    Raises `GrangeError` if the name, or a symlink among its folders, leads out of that folder. The
    folder itself may be a symlink.
    """
    relative = PurePosixPath(name)
    if not {"", ".", ".."}.isdisjoint(name.split("/")) or relative.is_absolute():
        raise GrangeError(f"the farm has an output called {name!r}, which is no place for a file")
    root = Path(root)
    path = root / relative
    if not path.parent.resolve().is_relative_to(root.resolve()):
        raise GrangeError(
            f"{path} cannot be saved: a symlink among its folders leads out of {root}: remove it, "
            "or save to another folder"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
