"""The metadata of a data set: `transforms.json`, and the same as SQLite for large sets.

`transforms` is what the render calls give: fields of the camera (intrinsics in pixels, once), and
`frames`, a list with one dictionary per frame: paths of its files relative to the root folder, and
`transform_matrix`, the 4×4 camera-to-world matrix (rows; right-handed, the camera looks along −Z,
+Y is up in its picture; lengths in Blender units).

The database has two tables:

    camera (name TEXT PRIMARY KEY, value TEXT)       every other field, its value as JSON
    frames (number INTEGER PRIMARY KEY,              place in the list, from 0
            file_path TEXT, …                        every text and number that frames have,
                                                     a column of its name each
            m00 REAL, m01 REAL, … m33 REAL,          the matrix, row by row
            more TEXT)                               whatever else a frame has, as a JSON object

so that `SELECT file_path, m03, m13, m23 FROM frames` is every camera's position.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from os import PathLike
from pathlib import Path
from typing import Any, cast

Transforms = dict[str, Any]

CELLS = [f"m{row}{column}" for row in range(4) for column in range(4)]
TAKEN = {"number", "more", *CELLS}
"""Columns that are not a frame's own."""


def write_transforms(path: str | PathLike[str], transforms: Mapping[str, Any]) -> Path:
    """Writes a `transforms.json` as tools for NeRF and Gaussian splatting read it, and gives its
    path. A folder gets a file of that name. The file is there whole or not at all.

    Raises `ValueError` for numbers that JSON has no word for.
    """
    target = Path(path)
    if target.is_dir():
        target /= "transforms.json"
    head = {key: value for key, value in transforms.items() if key != "frames"}
    lines = [f"  {json.dumps(key)}: {as_json(value)}" for key, value in head.items()]
    frames = ",\n".join(f"    {as_json(frame)}" for frame in frames_of(transforms))
    lines.append(f'  "frames": [\n{frames}\n  ]' if frames else '  "frames": []')
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.part")
    fresh.write_text(text, "utf-8")
    os.replace(fresh, target)
    return target


def read_transforms(path: str | PathLike[str]) -> Transforms:
    """What `write_transforms` wrote. A folder is looked into."""
    source = Path(path)
    if source.is_dir():
        source /= "transforms.json"
    return json.loads(source.read_text("utf-8"))


def write_database(path: str | PathLike[str], transforms: Mapping[str, Any]) -> Path:
    """Writes the tables described above into a new SQLite file, and gives its path. A file that is
    there is replaced; it is there whole or not at all.

    Raises `ValueError` for a frame whose matrix is not 4×4.
    """
    target = Path(path)
    frames = frames_of(transforms)
    columns = own_columns(frames)
    names = ["number", *columns, *CELLS, "more"]
    kinds = ["INTEGER PRIMARY KEY", *columns.values(), *["REAL"] * len(CELLS), "TEXT"]
    declared = ", ".join(f"{quoted(name)} {kind}" for name, kind in zip(names, kinds, strict=True))
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.part")
    fresh.unlink(missing_ok=True)
    with closing(sqlite3.connect(fresh)) as database, database:
        database.execute("CREATE TABLE camera (name TEXT PRIMARY KEY, value TEXT)")
        database.execute(f"CREATE TABLE frames ({declared})")
        camera = [(key, as_json(value)) for key, value in transforms.items() if key != "frames"]
        database.executemany("INSERT INTO camera VALUES (?, ?)", camera)
        rows = (row(number, frame, columns) for number, frame in enumerate(frames))
        holes = ", ".join("?" * len(names))
        database.executemany(f"INSERT INTO frames VALUES ({holes})", rows)
    os.replace(fresh, target)
    return target


def read_database(path: str | PathLike[str]) -> Transforms:
    """What `write_database` wrote. Raises `FileNotFoundError` if there is no such file."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no database `{path}`")
    with closing(sqlite3.connect(path)) as database:
        stored = database.execute("SELECT name, value FROM camera ORDER BY rowid")
        transforms: Transforms = {name: json.loads(value) for name, value in stored}
        found = database.execute("SELECT * FROM frames ORDER BY number")
        names = [column[0] for column in found.description]
        transforms["frames"] = [frame(dict(zip(names, one, strict=True))) for one in found]
    return transforms


def frames_of(transforms: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The frames. Raises `ValueError` for what is no transforms at all."""
    frames = transforms.get("frames")
    if not isinstance(frames, list):
        raise ValueError("transforms have a list `frames`: give what a render call returned")
    return cast("list[dict[str, Any]]", frames)


def as_json(value: Any) -> str:
    """JSON on one line."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def own_columns(frames: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Texts and numbers that frames have, with their kinds, in the order that they come up in. A
    name that has values of two kinds, or is a column's already, stays with the rest.
    """
    kinds: dict[str, set[str]] = {}
    folded: dict[str, str] = {}
    for frame in frames:
        for key, value in frame.items():
            # SQLite takes `A` and `a` for one column.
            same = folded.setdefault(key.lower(), key)
            if key.lower() not in TAKEN and same == key and key != "transform_matrix":
                kinds.setdefault(key, set()).add(kind_of(value))
    return {
        key: next(iter(found))
        for key, found in kinds.items()
        if len(found) == 1 and "" not in found
    }


def kind_of(value: Any) -> str:
    """The kind of a column for it; none for what has no column."""
    if isinstance(value, str):
        return "TEXT"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63:
        return "INTEGER"
    return "REAL" if isinstance(value, float) and math.isfinite(value) else ""


def row(number: int, frame: Mapping[str, Any], columns: Mapping[str, str]) -> list[Any]:
    """A frame as a row."""
    matrix = frame.get("transform_matrix")
    cells: list[Any] = [None] * len(CELLS)
    if matrix is not None:
        cells = [cell for line in matrix for cell in line]
        if len(cells) != len(CELLS):
            raise ValueError(f"frame {number} of the list has a matrix that is not 4×4")
    rest = {key: value for key, value in frame.items() if key not in columns}
    rest.pop("transform_matrix", None)
    more = as_json(rest) if rest else None
    return [number, *(frame.get(name) for name in columns), *cells, more]


def frame(stored: dict[str, Any]) -> dict[str, Any]:
    """A row as a frame."""
    own = {name: value for name, value in stored.items() if name not in TAKEN and value is not None}
    if stored["m00"] is not None:
        cells = [stored[name] for name in CELLS]
        own["transform_matrix"] = [cells[at : at + 4] for at in range(0, len(cells), 4)]
    return own | (json.loads(stored["more"]) if stored["more"] else {})


def quoted(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'
