"""Whether a picture's file is there and whole.

A run that was killed, and a disk that was full, leave files that are cut or empty; taken for
finished they would spoil a data set. PNG is decoded, JPEG and OpenEXR are walked from their first
byte to the end that they promise, other formats are judged by how they begin and by the lengths
that they declare. Never changes a file.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

PNG = b"\x89PNG\r\n\x1a\n"
EXR = b"\x76\x2f\x31\x01"
BEGINNINGS: dict[str, tuple[bytes, ...]] = {
    ".png": (PNG,),
    ".jpg": (b"\xff\xd8\xff",),
    ".jpeg": (b"\xff\xd8\xff",),
    ".exr": (EXR,),
    ".tif": (b"II*\0", b"MM\0*"),
    ".tiff": (b"II*\0", b"MM\0*"),
    ".bmp": (b"BM",),
    ".hdr": (b"#?RADIANCE", b"#?RGBE"),
    ".webp": (b"RIFF",),
    ".dpx": (b"SDPX", b"XPDS"),
    ".cin": (b"\x80\x2a\x5f\xd7", b"\xd7\x5f\x2a\x80"),
    ".jp2": (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    ".rgb": (b"\x01\xda",),
}
"""First bytes of formats by the end of their names."""

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel by a PNG's type of colour."""
ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
"""Passes of an interlaced PNG: first column and row, step of columns and of rows."""

EXR_LINES = {0: 1, 1: 1, 2: 1, 3: 16, 4: 32, 5: 16, 6: 32, 7: 32, 8: 32, 9: 256}
"""Rows of a block of an OpenEXR: none, RLE, ZIPS, ZIP, PIZ, PXR24, B44, B44A, DWAA, DWAB."""
INFLATE_BYTES = 1 << 20


class Broken(Exception):
    """Why a file is not whole."""


def is_whole(path: str | PathLike[str]) -> bool:
    """Whether the file is there and a whole picture of the format that its name says."""
    try:
        check(Path(path))
    except (Broken, OSError, struct.error, IndexError, ValueError, zlib.error):
        return False
    return True


def check(path: Path) -> None:
    """Raises `Broken` or what its reading raised if the file is not whole."""
    data = path.read_bytes()
    if not data:
        raise Broken("it is empty")
    ending = path.suffix.lower()
    beginnings = BEGINNINGS.get(ending)
    if beginnings and not any(data[: len(one)] == one for one in beginnings):
        raise Broken(f"it is named {ending} and is none")
    if ending == ".png":
        check_png(data)
    elif ending in (".jpg", ".jpeg"):
        check_jpeg(data)
    elif ending == ".exr":
        check_exr(data)
    elif ending in (".tif", ".tiff"):
        check_tiff(data)
    else:
        check_declared(ending, data)


def check_png(data: bytes) -> None:
    """Every chunk's checksum, the end, and as many pixels as the head says."""
    head, pixels, inflated = b"", zlib.decompressobj(), 0
    for kind, body in png_chunks(data):
        if kind == b"IHDR":
            head = body
        elif kind == b"IDAT":
            rest = body
            while rest:
                inflated += len(pixels.decompress(rest, INFLATE_BYTES))
                rest = pixels.unconsumed_tail
    inflated += len(pixels.flush())
    if len(head) != 13 or not pixels.eof or inflated != png_bytes(head):
        raise Broken("its pixels are cut")


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of every chunk, up to the end chunk, which has to be there."""
    at = len(PNG)
    while True:
        (length,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        (told,) = struct.unpack_from(">I", data, at + 8 + length)
        if zlib.crc32(body, zlib.crc32(kind)) != told:
            raise Broken("a chunk's checksum is wrong")
        yield kind, body
        if kind == b"IEND":
            return
        at += 12 + length


def png_bytes(head: bytes) -> int:
    """Bytes of the pixels, each row with its filter."""
    width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", head)
    bits = depth * CHANNELS.get(color, 0)
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = -((left - width) // across), -((top - height) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total


def check_jpeg(data: bytes) -> None:
    """Looks for the end past all segments: a thumbnail inside of one has an end of its own."""
    at, scanned = 2, False
    while True:
        at = data.find(b"\xff", at)
        if at < 0:
            raise Broken("it has no end")
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if marker == 0xD9:
            if not scanned:
                raise Broken("it has no pixels")
            return
        # Inside of pixels: an escaped 0xff, a restart.
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            continue
        scanned = scanned or marker == 0xDA
        (length,) = struct.unpack_from(">H", data, at)
        at += max(length, 2)


def check_exr(data: bytes) -> None:
    """Every block that the heads promise lies inside the file, in parts of any number."""
    (flags,) = struct.unpack_from("<I", data, 4)
    many, deep, tiled = bool(flags & 0x1000), bool(flags & 0x800), bool(flags & 0x200)
    at, heads = 8, list[dict[bytes, bytes]]()
    while True:
        head, at = exr_head(data, at)
        if not head and many:
            break
        heads.append(head)
        if not many:
            break
    counts = [exr_blocks(head, tiled) for head in heads]
    offsets = iter(struct.unpack_from(f"<{sum(counts)}Q", data, at))
    first = at + 8 * sum(counts)
    for head, count in zip(heads, counts, strict=True):
        kind = head.get(b"type", b"deep" if deep else b"tiledimage" if tiled else b"")
        for _ in range(count):
            check_block(data, next(offsets), first, kind, 4 if many else 0)


def check_block(data: bytes, at: int, first: int, kind: bytes, before: int) -> None:
    """One block, whose coordinates have `before` bytes before them."""
    if at < first:
        raise Broken("a block was never written")
    at += before + (16 if kind in (b"tiledimage", b"deeptile") else 4)
    if kind.startswith(b"deep"):
        table, packed = struct.unpack_from("<QQ", data, at)
        end = at + 24 + table + packed
    else:
        end = at + 4 + struct.unpack_from("<I", data, at)[0]
    if end > len(data):
        raise Broken("a block is cut")


def exr_head(data: bytes, at: int) -> tuple[dict[bytes, bytes], int]:
    """Attributes of one head, and where it ends. The head after the last one has none."""
    found: dict[bytes, bytes] = {}
    while data[at]:
        name, at = exr_text(data, at)
        _, at = exr_text(data, at)
        (size,) = struct.unpack_from("<I", data, at)
        found[name] = data[at + 4 : at + 4 + size].rstrip(b"\0" if name == b"type" else b"")
        at += 4 + size
    return found, at + 1


def exr_text(data: bytes, at: int) -> tuple[bytes, int]:
    """A text that ends with a zero, and where the next thing begins."""
    end = data.index(0, at)
    return data[at:end], end + 1


def exr_blocks(head: dict[bytes, bytes], tiled: bool) -> int:
    """Blocks of a part, which is as long as its table of offsets is."""
    if b"chunkCount" in head:
        return struct.unpack("<I", head[b"chunkCount"])[0]
    try:
        left, top, right, bottom = struct.unpack("<iiii", head[b"dataWindow"])
        width, height = right - left + 1, bottom - top + 1
        if not tiled:
            return -(-height // EXR_LINES[head[b"compression"][0]])
        across, down, mode = struct.unpack("<IIB", head[b"tiles"])
    except KeyError as error:
        raise Broken(f"its head lacks {error}") from None
    return tile_count(width, height, across, down, mode)


def tile_count(width: int, height: int, across: int, down: int, mode: int) -> int:
    """Tiles of all levels: one, mip map (both sides halved), rip map (each by itself)."""

    def halved(side: int) -> list[int]:
        sides = [side]
        while sides[-1] > 1:
            sides.append((sides[-1] + (mode >> 4)) // 2)
        return sides

    def tiles(columns: int, rows: int) -> int:
        return -(-columns // across) * -(-rows // down)

    level = mode & 0xF
    if level == 0:
        return tiles(width, height)
    if level == 2:
        return sum(tiles(columns, rows) for columns in halved(width) for rows in halved(height))
    sides = halved(max(width, height))
    shorter = halved(min(width, height)) + [1] * len(sides)
    if width < height:
        return sum(tiles(short, long) for long, short in zip(sides, shorter, strict=False))
    return sum(tiles(long, short) for long, short in zip(sides, shorter, strict=False))


def check_tiff(data: bytes) -> None:
    """The first picture's strips or tiles lie inside the file."""
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, at)
    lists: dict[int, tuple[int, ...]] = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(f"{order}HHI", data, entry)
        if tag in (273, 279, 324, 325) and kind in (3, 4):
            letter = "H" if kind == 3 else "I"
            where = entry + 8
            if struct.calcsize(letter) * number > 4:
                (where,) = struct.unpack_from(f"{order}I", data, entry + 8)
            lists[tag] = struct.unpack_from(f"{order}{number}{letter}", data, where)
    offsets, lengths = lists.get(273) or lists.get(324), lists.get(279) or lists.get(325)
    if not offsets or not lengths or len(offsets) != len(lengths):
        raise Broken("it has no pixels")
    if any(offset + length > len(data) for offset, length in zip(offsets, lengths, strict=True)):
        raise Broken("its pixels are cut")


def check_declared(ending: str, data: bytes) -> None:
    """Formats that say how long they are."""
    declared = 0
    if ending == ".bmp":
        (declared,) = struct.unpack_from("<I", data, 2)
    elif ending == ".webp":
        declared = struct.unpack_from("<I", data, 4)[0] + 8
    elif ending in (".dpx", ".cin"):
        at, big = (16, data[:4] == b"SDPX") if ending == ".dpx" else (20, data[0] == 0x80)
        (declared,) = struct.unpack_from(">I" if big else "<I", data, at)
        declared = 0 if declared == 0xFFFFFFFF else declared
    elif ending in (".jp2", ".j2c", ".j2k") and data[-2:] != b"\xff\xd9":
        raise Broken("it has no end")
    if declared > len(data):
        raise Broken(f"it has {len(data)} bytes of {declared}")
