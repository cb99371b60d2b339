# SPDX-License-Identifier: GPL-3.0-or-later
"""Which jobs were submitted from which .blend file, so that opening it again finds them.

A file of JSON among the user's settings, and not the .blend file, which stays as the user left it.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass

KEPT = 500
"""Jobs; older ones are forgotten."""


@dataclass
class Entry:
    """A job that this Blender has submitted."""

    farm: str
    """The hash of the farm's certificate."""
    job: int
    owner: str
    """The absolute path of its .blend file, or a word of this Blender for one without a path."""
    name: str
    folder: str
    """Absolute: where its pictures go."""
    is_fetched: bool = False
    """Whether it is over and its pictures are all here: they are not fetched again."""


class Record:
    """All entries, the latest last. Every change is written at once."""

    def __init__(self, path: str | None) -> None:
        """Reads what is there; a file that cannot be read counts as empty. Without a path nothing
        is kept beyond this Blender."""
        self._path = path
        self._entries = _read(path) if path else []

    def add(self, entry: Entry) -> None:
        self._entries.append(entry)
        del self._entries[:-KEPT]
        self._write()

    def of(self, farm: str, owner: str) -> list[Entry]:
        """The jobs of a file on a farm, the latest first."""
        found = [one for one in self._entries if (one.farm, one.owner) == (farm, owner)]
        return found[::-1]

    def fetched(self, farm: str, job: int) -> None:
        """Its pictures are all here."""
        for entry in self._entries:
            if (entry.farm, entry.job) == (farm, job) and not entry.is_fetched:
                entry.is_fetched = True
                self._write()

    def forget(self, farm: str, job: int) -> None:
        kept = [one for one in self._entries if (one.farm, one.job) != (farm, job)]
        if len(kept) != len(self._entries):
            self._entries = kept
            self._write()

    def rename(self, owner: str, to: str) -> None:
        """A file has got a path."""
        for entry in self._entries:
            if entry.owner == owner:
                entry.owner = to
        self._write()

    def _write(self) -> None:
        """What cannot be written is forgotten with this Blender, which is no reason to stop."""
        if self._path is None:
            return
        text = json.dumps([asdict(entry) for entry in self._entries], indent=1)
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            part = f"{self._path}.{os.getpid()}"
            with open(part, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(part, self._path)


def _read(path: str) -> list[Entry]:
    try:
        with open(path, encoding="utf-8") as file:
            return [Entry(**entry) for entry in json.load(file)]
    except (OSError, ValueError, TypeError):
        return []
