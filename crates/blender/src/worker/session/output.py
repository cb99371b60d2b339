"""What a frame's picture is: its size and its format; and the file itself, saved."""

from __future__ import annotations

import os
from typing import Any

import bpy

from worker.naming import clean
from worker.overrides import Overrides
from worker.picture import whole_size
from worker.session import checks
from worker.session.state import Session, look, operation

SIDE_MIN, SIDE_MAX = 4, 65_536
"""Pixels."""

MOVIES = {"FFMPEG", "AVI_JPEG", "AVI_RAW"}
CODECS = {"OPEN_EXR": "exr_codec", "OPEN_EXR_MULTILAYER": "exr_codec", "TIFF": "tiff_codec"}
"""Formats whose compression can be chosen, and the setting for it."""

LOSSY = {"JPEG", "JPEG2000", "WEBP"}
"""Formats that have a quality; EXR has one with a codec that loses."""

OTHER_NAMES = {
    "EXR": "OPEN_EXR",
    "EXR_MULTILAYER": "OPEN_EXR_MULTILAYER",
    "JPG": "JPEG",
    "TIF": "TIFF",
    "TGA": "TARGA",
}
SETTINGS = (
    *("color_mode", "color_depth", "exr_codec", "tiff_codec", "quality"),
    *("file_format", "media_type"),
)
"""The last one is put back first, because those before it depend on it."""


@operation
def set_resolution(session: Session, height: int | None = None, width: int | None = None) -> None:
    """The picture's size in pixels, of which all are rendered (100 %). What is not given stays as
    the picture has it now."""
    render = session.scene.render
    now_wide, now_high = whole_size(session.scene)
    high = now_high if height is None else checks.whole("height", height, SIDE_MIN, SIDE_MAX)
    wide = now_wide if width is None else checks.whole("width", width, SIDE_MIN, SIDE_MAX)
    render.resolution_y, render.resolution_x = high, wide
    render.resolution_percentage = 100


@operation
def image_settings(
    session: Session,
    file_format: str | None = None,
    bit_depth: int | None = None,
    color_mode: str | None = None,
    codec: str | None = None,
    quality: int | None = None,
) -> None:
    """How pictures are written: `PNG`, `OPEN_EXR` …; bits of a channel; `BW`, `RGB`, `RGBA`; the
    compression of EXR and TIFF; the quality of lossy formats, 0 to 100. What is not given stays.
    If one of them is refused, none has changed."""
    settings = session.scene.render.image_settings
    changed = Overrides()
    changed.remember(settings, *(name for name in SETTINGS if hasattr(settings, name)))
    try:
        if file_format is not None:
            set_format(settings, checks.text("file_format", file_format))
        of = f" of {settings.file_format}"
        if color_mode is not None:
            mode = checks.text("color_mode", color_mode).upper()
            checks.choose(settings, "color_mode", "color_mode", mode, of)
        if bit_depth is not None:
            checks.choose(settings, "color_depth", "bit_depth", bits(bit_depth), of)
        if codec is not None:
            set_codec(settings, checks.text("codec", codec).upper())
        if quality is not None:
            set_quality(settings, checks.whole("quality", quality, 0, 100))
    except Exception:
        changed.restore()
        raise


@look
def save_file(session: Session, name: str = "scene.blend") -> str:
    """Saves the scene as it is now, as a file of that name among the call's outputs; returns the
    name. Relative paths in it stay as they are: it opens well where the original lies."""
    name = checks.text("name", name)
    parts = name.split("/")
    if any(part in ("", ".", "..") or clean(part) != part for part in parts):
        raise ValueError(f"`{name}` is no name for a file: give one like `scene.blend`")
    if not name.endswith(".blend"):
        name += ".blend"
    path = os.path.join(session.scratch, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    bpy.ops.wm.save_as_mainfile(
        filepath=path, copy=True, relative_remap=False, check_existing=False
    )
    return name


def set_format(settings: Any, name: str) -> None:
    name = name.upper().lstrip(".")
    name = OTHER_NAMES.get(name, name)
    if name in MOVIES:
        raise ValueError(
            f"{name} is a movie, and frames are rendered one by one: choose a format of pictures"
        )
    if hasattr(settings, "media_type"):
        layered = name == "OPEN_EXR_MULTILAYER"
        settings.media_type = "MULTI_LAYER_IMAGE" if layered else "IMAGE"
    checks.choose(settings, "file_format", "file_format", name)


def bits(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(checks.whole("bit_depth", value, 1, 64))


def set_codec(settings: Any, name: str) -> None:
    file_format = settings.file_format
    if file_format not in CODECS:
        raise ValueError(f"{file_format} has no codec: {', '.join(CODECS)} have")
    checks.choose(settings, CODECS[file_format], "codec", name, f" of {file_format}")


def set_quality(settings: Any, value: int) -> None:
    file_format = settings.file_format
    exr = CODECS.get(file_format) == "exr_codec" and settings.exr_codec in ("DWAA", "DWAB")
    if file_format not in LOSSY and not exr:
        raise ValueError(
            f"{file_format} loses nothing and has no quality: {', '.join(sorted(LOSSY))} have, "
            "and OPEN_EXR with codec DWAA or DWAB"
        )
    settings.quality = value
