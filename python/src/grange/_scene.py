"""A scene with everything that it needs, brought to a farm.

The farm reads the .blend file; this module tells it what lies on this machine, in rounds, and sends
files. Owns the listing of folders and the order of uploads. It never opens a .blend file itself and
decides nothing about what a scene needs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .errors import GrangeError, MissingFiles

ROUNDS = 1_000
"""Rounds of questions, of which each level of libraries and folders takes one."""


class Sent(Protocol):
    """A file that the farm has."""

    @property
    def hash(self) -> str:
        """BLAKE3, 64 hexadecimal digits."""
        ...

    @property
    def len(self) -> int:
        """Bytes."""
        ...


class Farm(Protocol):
    """What this module needs of the farm's HTTP API."""

    def post(self, path: str, json: Any = None, *, repeat: bool = False) -> Any:
        """The answer to a POST, which may be sent again with `repeat`."""
        ...

    def upload_all(
        self, paths: Sequence[Path], on_bytes: Callable[[int, int], None] | None = None
    ) -> Sequence[Sent]:
        """Sends files that the farm lacks, several at once."""
        ...


@dataclass(frozen=True)
class Scene:
    """A scene that the farm has."""

    manifest: str
    """The hash of its manifest, for submissions."""
    blend: str
    """The absolute path of its .blend file in the manifest."""
    needs: dict[str, Any]
    """What its active scene asks of a Blender, for submissions."""
    warnings: list[str]
    """A sentence for each file that it names and that is not there."""
    summary: dict[str, Any]
    """`active`, the name of the scene that renders, `saved_by`, and `scenes` with their settings;
    each has `needs` of its own."""


def upload(
    api: Farm,
    path: Path,
    *,
    content: Path | None = None,
    allow_missing: bool = False,
    require_all: bool = False,
    on_bytes: Callable[[int, int], None] | None = None,
) -> Scene:
    """Sends a .blend file with all that it needs, and what is there already not again.

    `content` is a file that is sent in the place of `path`; what it names is meant from there.

    `on_bytes` hears of bytes sent and of bytes in all, as far as these are known by then; from any
    thread. Raises `MissingFiles` if a library is not there, unless `allow_missing`: then it is a
    warning, as textures are unless `require_all`; `OSError` if a file cannot be read; `GrangeError`
    if the scene's name cannot travel or the folders change all the time.
    """
    upload = _Upload(api, plain_path(path), content or path, on_bytes)
    upload.send([upload.blend])
    scene = upload.read()
    missing: list[dict[str, Any]] = scene["missing"]
    needed = [file["problem"] for file in missing if require_all or file["kind"] == "library"]
    if needed and not allow_missing:
        raise MissingFiles(needed)
    files: list[str] = scene["files"]
    upload.send(name for name in files if name not in upload.sent)
    entries = [upload.entry(name) for name in files]
    manifest: dict[str, Any] = api.post("/manifests", entries, repeat=True)
    return Scene(
        manifest=manifest["hash"],
        blend=scene["blend"],
        needs=scene["needs"],
        warnings=[file["problem"] for file in missing],
        summary=scene["summary"],
    )


def plain_path(path: Path) -> str:
    """The path as a manifest has it: absolute, without `.` and `..`, symlinks as they are."""
    text = os.path.abspath(path)
    if not text.startswith("/"):
        raise GrangeError(
            f"{text} is a path of Windows, which the farm's Linux cannot lay out: send the scene "
            "from Linux or macOS"
        )
    if not _is_text(text):
        raise GrangeError(f"{text!r} is a path that is not UTF-8: rename the file or its folder")
    return "/" + text.lstrip("/")


def listing(folder: str) -> dict[str, list[str]] | None:
    """The names in a folder, with symlinks as what they lead to; `None` if it cannot be listed."""
    files: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                # No .blend file can name what is not UTF-8.
                if _is_text(entry.name):
                    names = _kind(entry, files, folders)
                    if names is not None:
                        names.append(entry.name)
    except OSError:
        return None
    return {"files": sorted(files), "folders": sorted(folders)}


class _Upload:
    """One scene on its way."""

    def __init__(
        self,
        api: Farm,
        blend: str,
        content: Path,
        on_bytes: Callable[[int, int], None] | None,
    ) -> None:
        self.api = api
        self.blend = blend
        self.content = content
        self.on_bytes = on_bytes
        self.sent: dict[str, Sent | None] = {}
        """What the farm has, by path; `None` for a library that cannot be read."""
        self.folders: dict[str, dict[str, list[str]] | None] = {}
        self.bytes = 0

    def read(self) -> dict[str, Any]:
        """Answers the farm's questions until it has read the scene."""
        for _ in range(ROUNDS):
            told = {
                "path": self.blend,
                "files": {name: sent and _blob(sent) for name, sent in self.sent.items()},
                "folders": self.folders,
            }
            answer: dict[str, Any] = self.api.post("/scenes", told, repeat=True)
            if "scene" in answer:
                return answer["scene"]
            if not self.tell(answer["more"]["libraries"], answer["more"]["folders"]):
                break
        raise GrangeError(
            f"the files of {self.blend} change while they are being sent: wait until that is over, "
            "then try again"
        )

    def tell(self, libraries: list[str], folders: list[str]) -> bool:
        """Finds out what was asked for; whether anything was new."""
        new_folders = [folder for folder in folders if folder not in self.folders]
        self.folders.update((folder, listing(folder)) for folder in new_folders)
        # One that is not there is missing in the listing of its folder.
        there = [name for name in libraries if name not in self.sent and os.path.isfile(name)]
        readable = [name for name in there if os.access(name, os.R_OK)]
        self.sent.update((name, None) for name in there)
        self.send(readable)
        return bool(new_folders or there)

    def send(self, names: Iterable[str]) -> None:
        """Sends files that the farm may lack."""
        names = list(names)
        done = self.bytes

        def on_bytes(sent: int, of_all: int) -> None:
            if self.on_bytes:
                self.on_bytes(done + sent, done + of_all)

        paths = [self.content if name == self.blend else Path(name) for name in names]
        blobs = self.api.upload_all(paths, on_bytes)
        self.sent.update(zip(names, blobs, strict=True))
        self.bytes += sum(blob.len for blob in blobs)

    def entry(self, name: str) -> dict[str, Any]:
        """A file of the manifest."""
        sent = self.sent[name]
        if sent is None:
            raise GrangeError(f"{name} cannot be read: check its permissions")
        return {"path": name, **_blob(sent)}


def _blob(sent: Sent) -> dict[str, Any]:
    return {"blob": sent.hash, "len": sent.len}


def _kind(entry: os.DirEntry[str], files: list[str], folders: list[str]) -> list[str] | None:
    try:
        if entry.is_file():
            return files
        return folders if entry.is_dir() else None
    except OSError:
        # A symlink in a circle.
        return None


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
