# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of pictures, with tokens: `{shot}`, `{camera}`, `{scene}`, `{frame:04}`, and `####`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from string import Formatter

TOKENS = ("shot", "camera", "scene", "frame")
SHOWN = "{shot}, {camera}, {scene} and {frame:04}"

_FORBIDDEN = re.compile(r'[\x00-\x1f/\\:*?"<>|]')
_WIDTH = re.compile(r"0?\d{0,2}d?")
_HASHES = re.compile(r"#+")


@dataclass(frozen=True)
class Values:
    """What the tokens stand for in one picture."""

    shot: str
    camera: str
    scene: str
    frame: int


def expand(pattern: str, values: Values) -> str:
    """The picture's name without extension; `/` makes folders, which tokens' values never do.

    Raises `ValueError` with a sentence for people.
    """
    made = "".join(_part(pattern, *part, values) for part in _parts(pattern))
    if not made.strip() or made.endswith(("/", "\\")):
        raise ValueError(f"the output name `{pattern}` names no file: write one such as {{shot}}")
    return made


def for_farm(pattern: str, values: Values) -> str:
    """The name as a farm takes it: `####` stands for the frame, and nothing else is left open.

    Raises `ValueError` with a sentence for people.
    """
    parts = _parts(pattern)
    numbers = sum(len(_HASHES.findall(text)) + (field == "frame") for text, field, _ in parts)
    if numbers > 1:
        raise ValueError(
            f"the output name `{pattern}` has the frame {numbers} times: write it once for a farm"
        )
    made = "".join(_part_for_farm(pattern, *part, values) for part in parts)
    if not made.strip() or made.endswith(("/", "\\")):
        raise ValueError(f"the output name `{pattern}` names no file: write one such as {{shot}}")
    return made


def is_numbered(pattern: str) -> bool:
    """Whether each frame has a name of its own. Raises `ValueError` for a pattern that is none."""
    return any(field == "frame" or "#" in literal for literal, field, _ in _parts(pattern))


def numbered(pattern: str) -> str:
    """The pattern, with the frame's number at its end if it has none."""
    return pattern if is_numbered(pattern) else pattern + "_{frame:04}"


def clean(name: str) -> str:
    """A name without what file systems do not take, and never `.` or `..`."""
    made = _FORBIDDEN.sub("_", name).strip().rstrip(".")
    return made or "_"


def number(frame: int, digits: int) -> str:
    """As Blender does it: the sign before the digits and not one of them."""
    return f"{'-' if frame < 0 else ''}{abs(frame):0{digits}d}"


def _parts(pattern: str) -> list[tuple[str, str | None, str]]:
    """Literal text, and the token and its format that come after it."""
    try:
        parts = [(text, field, spec or "") for text, field, spec, _ in Formatter().parse(pattern)]
    except ValueError:
        raise ValueError(
            f"the output name `{pattern}` has a brace without its partner: tokens are {SHOWN}"
        ) from None
    for _, field, spec in parts:
        if field is not None and field not in TOKENS:
            raise ValueError(
                f"the output name `{pattern}` has an unknown token {{{field}}}: there are {SHOWN}"
            )
        if spec and (field != "frame" or not _WIDTH.fullmatch(spec)):
            raise ValueError(
                f"the output name `{pattern}` has a token that cannot be read: there are {SHOWN}"
            )
    return parts


def _part_for_farm(pattern: str, text: str, field: str | None, spec: str, values: Values) -> str:
    if field == "frame":
        return text + "#" * int(spec.rstrip("d") or 1)
    # A # in a shot's name is no frame.
    return text + _part(pattern, "", field, spec, values).replace("#", "_")


def _part(pattern: str, text: str, field: str | None, spec: str, values: Values) -> str:
    made = _HASHES.sub(lambda hashes: number(values.frame, len(hashes[0])), text)
    if field is None:
        return made
    if field == "frame":
        return made + number(values.frame, int(spec.rstrip("d") or 1))
    value = getattr(values, field)
    if field == "camera" and not value:
        raise ValueError(f"the output name `{pattern}` has {{camera}}, but the shot has no camera")
    return made + clean(value)
