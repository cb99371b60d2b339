"""The picture before compositing, taken out of a file with all passes.

Blender loads the first layer of such a file, which is the composite, and saves no other one. So
the layer's own picture is copied, byte by byte, into a file of its own. Only for files that
Blender has written uncompressed and in one part.
"""

from __future__ import annotations

import struct

COLORS = "ABGR"
"""Channels in the order in which EXR has them."""
FLOAT = 2
KEPT = {
    *(b"compression", b"dataWindow", b"displayWindow", b"lineOrder"),
    *(b"pixelAspectRatio", b"screenWindowCenter", b"screenWindowWidth"),
}
"""Attributes that every file has to have, besides its channels."""


def extract(source: str, target: str, layer: str) -> None:
    """Writes the `Combined` pass of a view layer as a plain EXR. A `RuntimeError` if the source
    has none."""
    with open(source, "rb") as file:
        data = memoryview(file.read())
    attributes, at = read_header(data)
    values = {name: value for name, _, value in attributes}
    channels = list(read_channels(values[b"channels"]))
    chosen = choose(channels, layer)
    left, top, right, bottom = struct.unpack("<4i", values[b"dataWindow"])
    width, height = right - left + 1, bottom - top + 1
    header = bytes(data[:8]) + write_header(attributes)
    offsets = struct.unpack_from(f"<{height}Q", data, at)
    row, line = 4 * width, len(COLORS) * 4 * width
    first = len(header) + 8 * height
    with open(target, "wb") as file:
        file.write(header)
        file.write(struct.pack(f"<{height}Q", *(first + y * (8 + line) for y in range(height))))
        for offset in sorted(offsets):
            (y,) = struct.unpack_from("<i", data, offset)
            file.write(struct.pack("<iI", y, line))
            for channel in chosen:
                begin = offset + 8 + channel * row
                file.write(data[begin : begin + row])


def read_header(data: memoryview) -> tuple[list[tuple[bytes, bytes, bytes]], int]:
    """Attributes with names, types and values, and where the table of offsets begins."""
    attributes, at = [], 8
    while data[at]:
        name, at = read_text(data, at)
        kind, at = read_text(data, at)
        (size,) = struct.unpack_from("<I", data, at)
        attributes.append((name, kind, bytes(data[at + 4 : at + 4 + size])))
        at += 4 + size
    return attributes, at + 1


def read_text(data: memoryview, at: int) -> tuple[bytes, int]:
    end = at
    while data[end]:
        end += 1
    return bytes(data[at:end]), end + 1


def read_channels(value: bytes) -> list[str]:
    names, at = [], 0
    while value[at]:
        end = value.index(0, at)
        (kind,) = struct.unpack_from("<i", value, end + 1)
        if kind != FLOAT:
            raise RuntimeError("a pass is not of 32 bits")
        names.append(value[at:end].decode("utf-8", "replace"))
        at = end + 17
    return names


def choose(channels: list[str], layer: str) -> list[int]:
    """Places of the layer's colours; those of the only layer, if Blender cut its name."""
    for prefix in (layer, *{name.rsplit(".", 2)[0] for name in channels} - {"Composite"}):
        names = [f"{prefix}.Combined.{color}" for color in COLORS]
        if all(name in channels for name in names):
            return [channels.index(name) for name in names]
    raise RuntimeError(f"the frame has no picture of view layer `{layer}` before compositing")


def write_header(attributes: list[tuple[bytes, bytes, bytes]]) -> bytes:
    channels = b"".join(
        color.encode() + b"\0" + struct.pack("<iIii", FLOAT, 0, 1, 1) for color in COLORS
    )
    parts = []
    for name, kind, value in attributes:
        if name == b"channels":
            value = channels + b"\0"
        elif name not in KEPT:
            continue
        parts.append(name + b"\0" + kind + b"\0" + struct.pack("<I", len(value)) + value)
    return b"".join(parts) + b"\0"
