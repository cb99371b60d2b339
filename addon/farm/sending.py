# SPDX-License-Identifier: GPL-3.0-or-later
"""What is sent to a farm, as the main thread has packed it."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
from dataclasses import dataclass, field
from typing import Any

from . import told

TILES = re.compile(r"<(UDIM|UVTILE)>")


@dataclass(frozen=True)
class Order:
    """A job that is to be."""

    number: int
    """Of this order, among those of this Blender."""
    blend: str
    """Absolute: the path of the user's file, from which its relative paths are meant."""
    copy: str
    """A copy of it with what is not saved yet, in a folder of its own that is removed after."""
    name: str
    folder: str
    """Absolute: where the pictures go."""
    owner: str
    """Whose file it is (`record`)."""
    arguments: dict[str, Any]
    """Those of `Farm.submit`; shots are keyword arguments of `grange.Shot` each."""
    allow_missing: bool = False
    files: tuple[str, ...] = field(default=(), repr=False)
    """Absolute paths that the scene names."""

    def missing(self) -> list[str]:
        """A sentence for each file that is not there. Looks at the disk."""
        return [f"{path} is not there" for path in self.files if not _is_there(path)]

    def discard(self) -> None:
        """Removes the copy."""
        shutil.rmtree(os.path.dirname(self.copy), ignore_errors=True)


def _is_there(path: str) -> bool:
    if TILES.search(path):
        return any(glob.iglob("*".join(glob.escape(part) for part in TILES.split(path)[::2])))
    return os.path.exists(path)


def refusal(order: Order, error: BaseException) -> told.NotSubmitted:
    """What a person is told of it, in a sentence."""
    missing: tuple[str, ...] = tuple(getattr(error, "files", ()))
    if missing:
        count = len(missing)
        files = "1 file that it names is" if count == 1 else f"{count} files that it names are"
        return told.NotSubmitted(order.number, f"the scene was not sent: {files} missing", missing)
    if isinstance(error, OSError) and error.filename and error.strerror:
        said = f"{error.filename} cannot be read: {error.strerror.lower()}"
        return told.NotSubmitted(order.number, said)
    return told.NotSubmitted(order.number, str(error) or type(error).__name__)


class Missing(Exception):
    """Files that the scene names are not there, so nothing was submitted."""

    def __init__(self, files: list[str]) -> None:
        super().__init__(files)
        self.files = files


@contextlib.contextmanager
def discarding(order: Order):
    try:
        yield
    finally:
        order.discard()
