"""One client of one instance."""

from __future__ import annotations

import base64
import logging
import struct
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fakes import QUICKLY_S, Dies, FakeFarm, FakeSession, png, pose
from rich.progress import Progress

from grange import _session
from grange.blender import Blender
from grange.errors import GrangeError, InstanceLost, NotConnected, RemoteTraceback


@pytest.fixture
def blender(farm: FakeFarm, tmp_path: Path) -> Iterator[Blender]:
    with Blender(farm) as blender:
        blender.initialize("a.blend", tmp_path)
        yield blender
    assert not farm.living
    assert not farm.held


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_a_session_is_made_kept_and_ended(farm: FakeFarm) -> None:
    with Blender(farm, priority=3, tags={"night", "big"}) as blender:
        assert repr(blender) == "<Blender without a scene>"
        blender.initialize("a.blend")
        assert blender.is_ready and farm.held == {1}
        scene = {"manifest": "hash of a.blend", "blend": "/a.blend"}
        wishes = {"needs": {"engines": ["cycles"]}, "name": "a", "priority": 3}
        wishes["tags"] = ["big", "night"]
        assert farm.sessions[0].body == scene | wishes
        blender.initialize("a.blend")
        assert farm.sessions[0].setup == ["reset"]
        blender.initialize("b.blend")
        assert [one.body["name"] for one in farm.living] == ["b"]
    assert not farm.living and not farm.held
    with pytest.raises(InstanceLost, match="was closed"):
        blender.reset()


def test_what_is_set_is_sent_by_name(farm: FakeFarm, blender: Blender) -> None:
    blender.set_resolution((480, 640))
    blender.set_resolution(48, 64)
    blender.set_animation_range(stop=12)
    blender.move_keyframes(shift=3)
    blender.image_settings("OPEN_EXR", 32, codec="PIZ")
    blender.position_camera((1, 2, 3), look_at=(0, 0, 0))
    blender.load_addons("one", "two")
    blender.include_flows("forward")
    assert blender.cycles_settings("CPU", samples=4) == ["GPU of 1"]
    assert farm.sessions[0].asked[1:] == [
        ("set_resolution", {"height": 480, "width": 640}),
        ("set_resolution", {"height": 48, "width": 64}),
        ("set_animation_range", {"stop": 12}),
        ("move_keyframes", {"scale": 1.0, "shift": 3}),
        ("image_settings", {"file_format": "OPEN_EXR", "bit_depth": 32, "codec": "PIZ"}),
        ("position_camera", {"location": [1, 2, 3], "look_at": [0, 0, 0], "in_order": True}),
        ("load_addons", {"names": ["one", "two"]}),
        ("include_flows", {"direction": "forward", "debug": False, "codec": "ZIP"}),
        ("cycles_settings", {"device": "CPU", "samples": 4}),
    ]
    assert blender.animation_range() == range(1, 5)
    assert blender.animation_range_tuple() == (1, 4, 1)


def test_wrong_calls_say_what_is_right(farm: FakeFarm, blender: Blender, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="give the width as well"):
        blender.set_resolution(480)
    with pytest.raises(AttributeError, match="did you mean `set_resolution`"):
        blender.set_resolutoin(4)
    with pytest.raises(ValueError, match="not both"):
        blender.position_camera(rotation=[[1.0]], look_at=(0, 0, 0))
    with pytest.raises(ValueError, match=r"end in \.blend"):
        blender.save_file(tmp_path / "a.png")
    with pytest.raises(ValueError, match="leads nowhere"):
        blender.render_animation(step=0)
    with pytest.raises(TypeError, match="cannot be sent to Blender"):
        blender.call("echo", object())
    with pytest.raises(GrangeError, match="call `initialize"):
        Blender(farm).reset()
    blender.initialize("a.blend")
    with pytest.raises(ValueError, match="with a folder"):
        blender.render_frame(1)


def test_frames_come_with_files_matrices_and_the_camera(blender: Blender, tmp_path: Path) -> None:
    assert blender.render_frames([3, 1, 3, -2]) == {
        "w": 5,
        "h": 3,
        "fl_x": 7.0,
        "frames": [
            {"file_path": "frames/frame_000003.png", "transform_matrix": pose(3)},
            {"file_path": "frames/frame_000001.png", "transform_matrix": pose(1)},
            {"file_path": "frames/frame_-000002.png", "transform_matrix": pose(-2)},
        ],
    }
    names = ["frame_-000002.png", "frame_000001.png", "frame_000003.png"]
    assert files(tmp_path) == [f"frames/{name}" for name in names]


def test_only_whole_frames_are_skipped(farm: FakeFarm, blender: Blender, tmp_path: Path) -> None:
    whole = blender.render_animation()
    assert blender.render_animation() == whole
    assert sorted(farm.sessions[0].frames) == [1, 2, 3, 4]
    (tmp_path / "frames/frame_000002.png").write_bytes(b"")
    (tmp_path / "frames/frame_000003.png").write_bytes(png()[:-1])
    told: list[dict[str, Any]] = []
    assert blender.render_animation(update=lambda **what: told.append(what)) == whole
    assert sorted(farm.sessions[0].frames[4:]) == [2, 3]
    assert told[0] == {"total": 4} and sum(what.get("advance", 0) for what in told) == 4
    blender.render_animation(allow_skips=False)
    assert sorted(farm.sessions[0].frames[6:]) == [1, 2, 3, 4]


def test_a_dry_run_of_a_thousand_asks_once(farm: FakeFarm, blender: Blender) -> None:
    found = blender.render_frames(range(1000), dry_run=True)
    assert found["frames"][999] == {
        "file_path": "frames/frame_000999.png",
        "transform_matrix": pose(999),
    }
    assert [name for name, _ in farm.sessions[0].asked].count("poses") == 1
    assert not farm.sessions[0].frames


def test_two_calls_are_under_way(farm: FakeFarm, blender: Blender) -> None:
    """While the farm has not yet answered one frame, the next one has been sent."""
    sent = threading.Barrier(2, timeout=QUICKLY_S)
    original = farm.lines

    def lines(method: str, path: str, json: Any = None) -> Iterator[bytes]:
        if json["do"] == "render":
            sent.wait()
        return original(method, path, json)

    farm.lines = lines
    blender.render_frames([1, 2])


def test_updates_take_what_they_know(blender: Blender) -> None:
    told: list[tuple[str, float]] = []

    def simple(*, total: int | None = None, advance: int | None = None) -> None:
        told.append(("total", total) if total is not None else ("advance", advance or 0))

    blender.render_frames([1, 2], update=simple)
    assert told == [("total", 2), ("advance", 1), ("advance", 1)]
    bars = Progress()
    blender.render_frames([3, 4, 5], update=partial(bars.update, bars.add_task("bar", total=None)))
    assert bars.tasks[0].completed == bars.tasks[0].total == 3


def test_partial_frames_are_told(blender: Blender) -> None:
    told: list[float] = []

    def update(partial: float | None = None, **_: Any) -> None:
        if partial is not None:
            told.append(partial)

    blender.render_frame(1, update=update)
    assert told == [0.5, 0]


def test_an_error_of_an_update_is_raised(blender: Blender) -> None:
    def update(**_: Any) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        blender.render_frame(1, update=update)


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (ValueError("no such codec"), ValueError, "no such codec"),
        (KeyError("Cube"), KeyError, "'Cube'"),
        (StopIteration("on"), GrangeError, "StopIteration: on"),
        (
            UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
            GrangeError,
            "UnicodeDecodeError: 'utf-8'",
        ),
        (type("OwnError", (Exception,), {})("mine"), GrangeError, "OwnError: mine"),
        (type("NotPlain", (Exception,), {})("no"), TypeError, "no"),
    ],
)
def test_errors_there_are_errors_here(
    farm: FakeFarm, blender: Blender, error: Exception, kind: type[Exception], text: str
) -> None:
    def fails(_: FakeSession) -> None:
        raise error

    farm.operations["unbind_camera"] = fails
    with pytest.raises(kind) as caught:
        blender.unbind_camera()
    assert str(caught.value).startswith(text)
    assert type(caught.value) is kind
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "Traceback in Blender" in str(caught.value.__cause__)


def test_a_frame_that_fails_ends_the_call(farm: FakeFarm, blender: Blender) -> None:
    def render(_: FakeSession, frame: int, **__: Any) -> None:
        if frame == 2:
            raise RuntimeError("no camera")

    farm.operations["render"] = render
    with pytest.raises(RuntimeError, match="no camera"):
        blender.render_animation()


def test_a_lost_instance_is_told_as_such(farm: FakeFarm, blender: Blender) -> None:
    def render(_: FakeSession, frame: int, **__: Any) -> None:
        if frame == 2:
            raise Dies("out of memory")

    farm.operations["render"] = render
    with pytest.raises(InstanceLost, match="out of memory"):
        blender.render_animation()
    with pytest.raises(InstanceLost, match="out of memory"):
        blender.reset()
    assert not farm.held
    blender.initialize("a.blend")
    assert len(farm.sessions) == 2


def test_an_empty_output_is_no_frame(farm: FakeFarm, blender: Blender, tmp_path: Path) -> None:
    original = farm.output
    farm.output = lambda session, name, _, told: original(session, name, b"", told)
    with pytest.raises(GrangeError, match="is empty"):
        blender.render_frame(1)
    assert files(tmp_path) == []


def test_a_name_that_climbs_is_refused(farm: FakeFarm, blender: Blender, tmp_path: Path) -> None:
    original = farm.output
    farm.output = lambda session, name, data, told: original(session, f"../{name}", data, told)
    with pytest.raises(GrangeError, match="no place for a file"):
        blender.render_frame(1)
    assert not list(tmp_path.parent.glob("frame*"))


def test_a_broken_connection_joins_the_call_again(farm: FakeFarm, blender: Blender) -> None:
    farm.broken = 3
    assert blender.call("echo", a=1) == {"a": 1}
    assert [name for name, _ in farm.sessions[0].asked] == ["ping", "echo"]


def test_a_farm_that_stays_away_is_an_error(
    farm: FakeFarm, blender: Blender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_session, "BROKEN_MAX_S", 0.05)
    farm.broken = 1 << 30
    with pytest.raises(NotConnected, match="in the middle of a call: the cable was pulled"):
        blender.reset()


def test_closing_ends_the_wait_for_a_place(farm: FakeFarm) -> None:
    farm.places = 0
    blender = Blender(farm)
    waiting = threading.Event()
    closer = threading.Thread(target=lambda: (waiting.wait(QUICKLY_S), blender.close()))
    closer.start()
    logger = logging.Logger("test")
    logger.addFilter(lambda _: (waiting.set(), True)[1])
    blender.with_logger(logger)
    with pytest.raises(InstanceLost, match="ended"):
        blender.initialize("a.blend")
    closer.join()
    assert waiting.is_set() and not farm.living


def test_files_and_logs_come_here(farm: FakeFarm, tmp_path: Path) -> None:
    def save_file(session: FakeSession, name: str) -> None:
        farm.output(session, name, b"BLENDER", told)

    told: list[dict[str, Any]] = []
    original = farm.perform

    def perform(session: FakeSession, name: str, args: Any, lines: list[dict[str, Any]]) -> Any:
        value = original(session, name, args, lines)
        lines += told
        told.clear()
        return value

    farm.perform = perform
    farm.operations["save_file"] = save_file
    farm.logs[1] = ["second attempt", "first attempt"]
    with Blender(farm, log_dir=tmp_path / "logs", name="my scene") as blender:
        blender.initialize("a.blend")
        blender.save_file(tmp_path / "there" / "b.blend")
    assert (tmp_path / "there" / "b.blend").read_bytes() == b"BLENDER"
    assert (tmp_path / "logs" / "my_scene-1.log").read_text() == "first attempt\nsecond attempt"


def double(session: Any, number: int) -> int:
    """An operation of a person's own."""
    return number * 2 if session else 0


def test_extensions_are_methods(farm: FakeFarm, tmp_path: Path) -> None:
    (tmp_path / "boxes.py").write_text("def boxes(session): ...\n")
    farm.operations["double"] = lambda _, **args: args["$args"][0] * 2
    with Blender(farm, extensions=[double, tmp_path / "boxes.py"]) as blender:
        with pytest.raises(AttributeError, match="after `initialize`"):
            blender.fold(1)
        blender.initialize("a.blend")
        assert blender.double(4) == 8
        blender.reset()
        sent = [args for name, args in farm.sessions[0].asked if name == "extend"]
        assert [one["name"] for one in sent] == ["double", "boxes"]
        assert sent[0]["source"].startswith("def double(session")
        with pytest.raises(AttributeError, match="did you mean `boxes`"):
            blender.bokses()
        assert not hasattr(blender, "__array__")


def test_what_cannot_be_an_extension_is_told(farm: FakeFarm, tmp_path: Path) -> None:
    around = 3
    (tmp_path / "my-ops.py").write_text("")
    wrong: list[tuple[Any, type[Exception], str]] = [
        (tmp_path / "none.py", FileNotFoundError, "no extension"),
        (tmp_path / "my-ops.py", ValueError, "letters, digits"),
        (lambda _: around, ValueError, "a lambda has no name"),
        (3, TypeError, "not int"),
    ]
    for extension, kind, text in wrong:
        with pytest.raises(kind, match=text):
            Blender(farm, extensions=[extension])

    def inner(_: Any) -> int:
        return around

    with pytest.raises(ValueError, match="uses `around`"):
        Blender(farm, extensions=[inner])


def test_arrays_and_bytes_go_there_and_back(blender: Blender) -> None:
    np = pytest.importorskip("numpy")
    array = np.arange(6, dtype=">i2").reshape(2, 3)
    sent: dict[str, Any] = {"bytes": b"\0\1", "set": {2, 1}, "path": Path("a/b")}
    got = blender.call("echo", array=array, one=np.float32(2), **sent)
    there = got.pop("array")
    assert there.dtype == np.dtype("<i2") and (there == array).all()
    assert got == {"bytes": b"\0\1", "set": [1, 2], "path": "a/b", "one": 2.0}
    with pytest.raises(ValueError, match="in a numpy array"):
        blender.call("echo", float("nan"))


def test_without_numpy_arrays_are_lists(blender: Blender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    data = base64.b64encode(struct.pack("<6h", *range(6))).decode()
    array = {"$array": {"dtype": "<i2", "shape": [2, 3], "data": data}}
    assert blender.call("echo", array=array) == {"array": [[0, 1, 2], [3, 4, 5]]}
