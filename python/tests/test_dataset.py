"""Metadata of data sets, there and back."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from grange import dataset


def transforms(count: int = 3) -> dict[str, Any]:
    matrix = [
        [1.0, 0.0, 0.0, 0.5],
        [0.0, 1.0, 0.0, 2.0],
        [0.0, 0.0, 1.0, 3.0],
        [0.0, 0.0, 0.0, 1.0],
    ]
    frames = [
        {
            "file_path": f"frames/frame_{number:06d}.png",
            "depth_file_path": f"depths/depth_{number:06d}.exr",
            "near_m": number + 0.5,
            "labels": {"1": "cube"},
            "transform_matrix": matrix,
        }
        for number in range(count)
    ]
    return {"fl_x": 1111.0, "w": 64, "h": 48, "camera_model": "OPENCV", "frames": frames}


def test_transforms_go_there_and_back(tmp_path: Path) -> None:
    written = dataset.write_transforms(tmp_path, transforms())
    assert written == tmp_path / "transforms.json"
    assert json.loads(written.read_text("utf-8")) == transforms()
    assert dataset.read_transforms(tmp_path) == transforms()
    assert dataset.read_transforms(dataset.write_transforms(written, transforms(0))) == transforms(
        0
    )
    assert [path.name for path in tmp_path.iterdir()] == ["transforms.json"]


def test_a_database_goes_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "set.db"
    for count in (5, 3, 0):
        dataset.write_database(path, transforms(count))
        assert dataset.read_database(path) == transforms(count)


def test_a_database_can_be_asked(tmp_path: Path) -> None:
    database = sqlite3.connect(dataset.write_database(tmp_path / "set.db", transforms()))
    found = database.execute("SELECT file_path, near_m, m03, m13, m23 FROM frames WHERE number = 2")
    assert found.fetchall() == [("frames/frame_000002.png", 2.5, 0.5, 2.0, 3.0)]
    database.close()


def test_odd_fields_survive(tmp_path: Path) -> None:
    odd = transforms()
    odd["frames"][0] |= {"number": 7, "M00": 1, "mixed": 1, 'a"b': "x", "Near_M": 3, "big": 1 << 70}
    odd["frames"][1] |= {"mixed": "text", "flag": True}
    assert dataset.read_database(dataset.write_database(tmp_path / "set.db", odd)) == odd


def test_a_thousand_frames_are_no_wait(tmp_path: Path) -> None:
    many = transforms(1000)
    begun = time.perf_counter()
    dataset.write_transforms(tmp_path, many)
    dataset.write_database(tmp_path / "set.db", many)
    assert dataset.read_database(tmp_path / "set.db") == dataset.read_transforms(tmp_path) == many
    assert time.perf_counter() - begun < 1.0


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="have a list `frames`"):
        dataset.write_transforms(tmp_path, {})
    with pytest.raises(ValueError, match="not 4×4"):
        dataset.write_database(tmp_path / "a.db", {"frames": [{"transform_matrix": [[1.0]]}]})
    with pytest.raises(ValueError, match="Out of range"):
        dataset.write_transforms(tmp_path, {"fl_x": float("nan"), "frames": []})
    with pytest.raises(FileNotFoundError, match="no database"):
        dataset.read_database(tmp_path / "none.db")
