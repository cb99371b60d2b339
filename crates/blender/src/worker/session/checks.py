"""What calls are given, checked before Blender sees it: its own errors do not name the argument,
and some wrong values it takes without a word.

Every function returns the value as Blender is to have it, or raises a `TypeError` or `ValueError`
that says what would have been right.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from mathutils import Matrix

FRAME_MAX = 1_048_574
"""Blender's last frame; the first one is its negative."""

FLAT = 1e-3
"""How far from a rotation a matrix may be, so that numbers that were rounded still pass."""


def whole(name: str, value: Any, low: int, high: int) -> int:
    """A whole number within bounds that belong to it. A float without a fraction is one too."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a whole number, not {shown(value)}")
    if not low <= value <= high:
        raise ValueError(f"{name} is {low} to {high}, not {value}")
    return value


def frame(name: str, value: Any) -> int:
    return whole(name, value, -FRAME_MAX, FRAME_MAX)


def real(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """A number within bounds that belong to it."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a number, not {shown(value)}")
    if not math.isfinite(value):
        raise ValueError(f"{name} is a finite number, not {value}")
    if not low <= value <= high:
        bounds = f"{low:g} to {high:g}" if math.isfinite(high) else f"at least {low:g}"
        raise ValueError(f"{name} is {bounds}, not {value:g}")
    return float(value)


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} is true or false, not {shown(value)}")
    return value


def text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} is a text, not {shown(value)}")
    return value


def choose(owner: Any, attribute: str, name: str, value: str, of: str = "") -> None:
    """Sets an enumeration of Blender's; what it takes right now only Blender knows."""
    try:
        setattr(owner, attribute, value)
    except TypeError as error:
        _, _, behind = str(error).partition("not found in ")
        known = re.findall(r"'([^']*)'", behind)
        close = difflib.get_close_matches(value, known, n=1)
        hint = f": did you mean `{close[0]}`?" if close else f": it takes {', '.join(known)}"
        raise ValueError(f"there is no {name} `{value}`{of}{hint}") from None


def vector(name: str, value: Any, length: int = 3) -> list[float]:
    """Numbers in a row."""
    if not is_row(value) or len(value) != length:
        raise TypeError(f"{name} is {length} numbers, not {shown(value)}")
    return [real(f"a number of {name}", one) for one in plain(value)]


def matrix(name: str, value: Any, side: int) -> Matrix:
    """Rows of numbers, as many as each has."""
    if not is_row(value) or [len(row) if is_row(row) else 0 for row in value] != [side] * side:
        raise TypeError(f"{name} is a {side}x{side} matrix, as rows, not {shown(value)}")
    return Matrix([vector(f"a row of {name}", row, side) for row in value])


def rotation(name: str, value: Matrix) -> Matrix:
    """A 3x3 matrix that rotates and does nothing else."""
    off = value @ value.transposed() - Matrix.Identity(3)
    if max(abs(one) for row in off for one in row) > FLAT or value.determinant() < 0:
        raise ValueError(
            f"{name} is no rotation: its rows have to be of length 1 and at right angles, "
            "without mirroring"
        )
    return value


def pose(name: str, value: Any) -> Matrix:
    """A 4x4 matrix from an object's space to the world's."""
    placed = matrix(name, value, 4)
    if [round(one, 6) for one in placed[3]] != [0, 0, 0, 1]:
        raise ValueError(f"the last row of {name} is 0, 0, 0, 1, not {shown(list(placed[3]))}")
    if placed.to_3x3().determinant() <= 1e-9:
        raise ValueError(f"{name} is no pose: it flattens or mirrors")
    return placed


def is_row(value: Any) -> bool:
    if isinstance(value, (str, bytes)):
        return False
    return hasattr(value, "__len__") and hasattr(value, "__getitem__")


def plain(value: Any) -> Sequence[Any]:
    """Numbers of Python's own; those of an array are numpy's."""
    return value.tolist() if hasattr(value, "tolist") else value


def names(name: str, value: Any) -> list[str]:
    """One text, or several."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, Iterable):
        raise TypeError(f"{name} is a list of texts, not {shown(value)}")
    return [text(f"one of {name}", one) for one in value]


def shown(value: Any) -> str:
    """A wrong value for a sentence."""
    spelled = repr(value)
    return spelled if len(spelled) <= 60 else f"{spelled[:57]}..."
