"""Pictures that are whole, and the same ones cut, zeroed and changed."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from fakes import png

from grange import pictures


def jpeg() -> bytes:
    thumbnail = b"\xff\xe1" + struct.pack(">H", 8) + b"\xff\xd8\xff\xd9ab"
    scan = b"\xff\xda" + struct.pack(">H", 4) + b"\0\0" + b"abc\xff\0def\xff\xd0ghi"
    return b"\xff\xd8" + thumbnail + scan + b"\xff\xd9"


def attribute(name: bytes, kind: bytes, value: bytes) -> bytes:
    return name + b"\0" + kind + b"\0" + struct.pack("<I", len(value)) + value


def exr(parts: int = 1, height: int = 40) -> bytes:
    """Blocks of 16 rows, the last one shorter."""
    count = -(-height // 16)
    many = parts > 1
    head = attribute(b"compression", b"compression", b"\x03")
    head += attribute(b"dataWindow", b"box2i", struct.pack("<iiii", 0, 0, 7, height - 1))
    if many:
        head += attribute(b"chunkCount", b"int", struct.pack("<i", count))
        head += attribute(b"type", b"string", b"scanlineimage")
    data = pictures.EXR + struct.pack("<I", 2 | (0x1000 if many else 0))
    data += (head + b"\0") * parts + (b"\0" if many else b"")
    blocks = [
        (struct.pack("<I", part) if many else b"") + struct.pack("<iI", 16 * block, 6) + b"pixels"
        for part in range(parts)
        for block in range(count)
    ]
    at = len(data) + 8 * len(blocks)
    offsets = [at + sum(map(len, blocks[:number])) for number in range(len(blocks))]
    return data + struct.pack(f"<{len(offsets)}Q", *offsets) + b"".join(blocks)


def tiff() -> bytes:
    entries = struct.pack("<HHII", 273, 4, 1, 8) + struct.pack("<HHII", 279, 4, 1, 6)
    return b"II*\0" + struct.pack("<I", 14) + b"pixels" + struct.pack("<H", 2) + entries


WHOLE = {
    "a.png": png(),
    "interlaced.png": png(interlaced=1),
    "a.jpg": jpeg(),
    "a.exr": exr(),
    "parts.exr": exr(parts=3),
    "a.tiff": tiff(),
    "a.webp": b"RIFF" + struct.pack("<I", 8) + b"WEBPVP8 ",
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_file_is_whole_and_none_of_its_beginnings_is(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(WHOLE[name])
    assert pictures.is_whole(path)
    for length in range(len(WHOLE[name])):
        path.write_bytes(WHOLE[name][:length])
        assert not pictures.is_whole(path), length


def test_what_is_wrong_inside_is_seen(tmp_path: Path) -> None:
    def judged(name: str, data: bytes) -> bool:
        (tmp_path / name).write_bytes(data)
        return pictures.is_whole(tmp_path / name)

    flipped = bytearray(png())
    flipped[45] ^= 1
    assert not judged("checksum.png", bytes(flipped))
    assert not judged("rows.png", png(rows=2))
    assert not judged("zeros.png", bytes(len(png())))
    assert not judged("zeros.exr", bytes(len(exr())))
    assert not judged("other.png", jpeg())
    assert not judged("missing_end.jpg", jpeg()[:-2])
    unwritten = exr().replace(struct.pack("<Q", exr().index(struct.pack("<iI", 16, 6))), bytes(8))
    assert not judged("unwritten.exr", unwritten)
    assert not pictures.is_whole(tmp_path / "absent.png")
    assert not pictures.is_whole(tmp_path)
    assert judged("unknown.xyz", b"something")
    assert not judged("unknown.xyz", b"")


def test_tiles_of_mip_maps_are_counted() -> None:
    # 8×4: 2×1 tiles of 4×4, then 4×2, 2×1, 1×1 with one each.
    assert pictures.tile_count(8, 4, 4, 4, 0) == 2
    assert pictures.tile_count(8, 4, 4, 4, 1) == 5
    assert pictures.tile_count(4, 8, 4, 4, 1) == 5
    assert pictures.tile_count(8, 4, 4, 4, 2) == (2 + 1 + 1 + 1) * 3
