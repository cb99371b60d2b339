"""Arguments and results: JSON, with numpy arrays and bytes as objects of one key.

An array travels as `{"$array": {"dtype": "<f4", "shape": [2, 3], "data": BASE64}}`, in C order,
bytes as `{"$bytes": BASE64}`, numbers that JSON has no word for as `{"$float": "nan"}`. The rule
for what comes back: an array is a numpy array exactly where the instance sent one and numpy is
installed here, and nested lists where it is not; everything else, matrices of cameras among it, is
plain lists, dictionaries, numbers and texts.
"""

from __future__ import annotations

import base64
import importlib
import math
import struct
from collections.abc import Iterable, Mapping, Set
from pathlib import PurePath
from typing import Any, cast

DEPTH_MAX = 64
"""Levels of a value; a deeper one is taken for one that contains itself."""

FORMATS = {
    "|b1": "?",
    "|i1": "b",
    "|u1": "B",
    "<i2": "h",
    "<u2": "H",
    "<i4": "i",
    "<u4": "I",
    "<i8": "q",
    "<u8": "Q",
    "<f2": "e",
    "<f4": "f",
    "<f8": "d",
}


def encode(value: Any, depth: int = 0) -> Any:
    """The value as JSON has it. Raises `TypeError` for what cannot travel."""
    if depth > DEPTH_MAX:
        raise ValueError("an argument is nested too deeply, or contains itself")
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": str(value)}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$bytes": base64.b64encode(bytes(cast(bytes, value))).decode("ascii")}
    if hasattr(value, "__array_interface__") and hasattr(value, "tobytes"):
        return encode_array(value)
    if isinstance(value, Mapping):
        pairs = cast("Mapping[Any, Any]", value)
        return {str(key): encode(one, depth + 1) for key, one in pairs.items()}
    if isinstance(value, Set):
        return [encode(one, depth + 1) for one in sorted(cast("Set[Any]", value), key=str)]
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Iterable):
        return [encode(one, depth + 1) for one in cast("Iterable[Any]", value)]
    raise TypeError(
        f"a {type(value).__name__} cannot be sent to Blender: send numbers, texts, lists, "
        "dictionaries, bytes and numpy arrays"
    )


def encode_array(array: Any) -> Any:
    """A numpy array or one of numpy's numbers."""
    if array.dtype.kind not in "biuf":
        raise TypeError(f"an array of {array.dtype} cannot travel: convert it to numbers")
    if array.ndim == 0:
        return encode(array.item())
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    data = base64.b64encode(little.tobytes()).decode("ascii")
    return {"$array": {"dtype": little.dtype.str, "shape": list(array.shape), "data": data}}


def decode(value: Any) -> Any:
    """What `encode` of the other side made."""
    if isinstance(value, list):
        return [decode(one) for one in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    pairs = cast("dict[str, Any]", value)
    if pairs.keys() == {"$float"}:
        return float(pairs["$float"])
    if pairs.keys() == {"$bytes"}:
        return base64.b64decode(pairs["$bytes"])
    if pairs.keys() == {"$array"}:
        return decode_array(pairs["$array"])
    return {key: decode(one) for key, one in pairs.items()}


def decode_array(array: dict[str, Any]) -> Any:
    """A numpy array, or nested lists where there is no numpy."""
    data = base64.b64decode(array["data"])
    try:
        numpy = importlib.import_module("numpy")
    except ImportError:
        letter = FORMATS[array["dtype"]]
        numbers = [one for (one,) in struct.iter_unpack(f"<{letter}", data)]
        return nested(numbers, array["shape"])
    return numpy.frombuffer(data, dtype=array["dtype"]).reshape(array["shape"]).copy()


def nested(numbers: list[Any], shape: list[int]) -> list[Any]:
    """The numbers in lists of the shape."""
    for side in reversed(shape[1:]):
        numbers = [numbers[at : at + side] for at in range(0, len(numbers), max(side, 1))]
    return numbers
