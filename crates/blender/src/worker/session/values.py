"""Arguments and results: JSON, with numpy arrays and bytes as objects of one key.

An array is `{"$array": {"dtype": "<f4", "shape": [2, 3], "data": BASE64}}`, in C order; bytes are
`{"$bytes": BASE64}`, and numbers that JSON has no word for `{"$float": "nan"}`. Debian's Blender
has no numpy: there an array arrives as nested lists.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Mapping, Sequence, Set
from pathlib import PurePath
from typing import Any

DEPTH_MAX = 64
"""Levels of a value; a deeper one is taken for one that contains itself."""

CODES = ("|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8")
FORMATS = dict(zip(CODES, "?bBhHiIqQefd", strict=True))
"""How `struct` calls numpy's types."""


class NotPlain(TypeError):
    """A value that cannot travel."""


def encode(value: Any, depth: int = 0) -> Any:
    """The value as JSON has it. Raises `NotPlain` for what has no meaning outside Blender."""
    if depth > DEPTH_MAX:
        raise NotPlain("a result is nested too deeply, or contains itself")
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$bytes": base64.b64encode(bytes(value)).decode("ascii")}
    if hasattr(value, "__array_interface__") and hasattr(value, "tobytes"):
        return encode_array(value)
    if isinstance(value, Mapping):
        return {str(key): encode(one, depth + 1) for key, one in value.items()}
    if isinstance(value, Set):
        return [encode(one, depth + 1) for one in sorted(value, key=str)]
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "bl_rna"):
        raise NotPlain(
            f"a result has {value!r} in it, which lives in Blender alone: return its name, "
            "or the numbers that you need of it"
        )
    if isinstance(value, Sequence) or hasattr(value, "__iter__"):
        return [encode(one, depth + 1) for one in value]
    raise NotPlain(
        f"a result has a {type(value).__name__} in it: return numbers, texts, lists, "
        "dictionaries, bytes and numpy arrays"
    )


def encode_array(array: Any) -> Any:
    if array.dtype.kind not in "biuf":
        raise NotPlain(f"an array of {array.dtype} cannot travel: convert it to numbers")
    if array.ndim == 0:
        return array.item()
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    data = base64.b64encode(little.tobytes()).decode("ascii")
    return {"$array": {"dtype": little.dtype.str, "shape": list(array.shape), "data": data}}


def decode(value: Any) -> Any:
    """What `encode` of the other side made."""
    if isinstance(value, list):
        return [decode(one) for one in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"$float"}:
        return float(value["$float"])
    if value.keys() == {"$bytes"}:
        return base64.b64decode(value["$bytes"])
    if value.keys() == {"$array"}:
        return decode_array(value["$array"])
    return {key: decode(one) for key, one in value.items()}


def decode_array(array: dict[str, Any]) -> Any:
    data = base64.b64decode(array["data"])
    try:
        import numpy
    except ImportError:
        letter = FORMATS[array["dtype"]]
        numbers = [one for (one,) in struct.iter_unpack(f"<{letter}", data)]
        return nested(numbers, array["shape"])
    return numpy.frombuffer(data, dtype=array["dtype"]).reshape(array["shape"]).copy()


def nested(numbers: list[Any], shape: list[int]) -> list[Any]:
    for side in reversed(shape[1:]):
        numbers = [numbers[at : at + side] for at in range(0, len(numbers), side)]
    return numbers
