"""Several instances, driven as one, and what can happen to them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import QUICKLY_S, Dies, FakeFarm, FakeSession, pose, quiet

from grange.errors import GrangeError, InstanceLost
from grange.instances import Instances


@pytest.fixture
def two(farm: FakeFarm, tmp_path: Path) -> Iterator[Instances]:
    with Instances(farm, 2, logger=quiet()) as two:
        two.initialize("a.blend", tmp_path)
        eventually(lambda: two.ready_count() == 2)
        yield two
    assert not farm.living and not farm.held


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + QUICKLY_S
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.002)


def rendered(farm: FakeFarm) -> list[int]:
    return sorted(frame for session in farm.sessions for frame in session.frames)


def test_calls_go_to_all_and_values_come_from_each(farm: FakeFarm, two: Instances) -> None:
    assert two.cycles_settings(samples=4) == [["GPU of 1"], ["GPU of 2"]]
    assert two.animation_range() == [range(1, 5)] * 2
    assert two.call("echo", a=1) == [{"a": 1}] * 2
    two.set_resolution(4, 5)
    expected = ["cycles_settings", "echo", "set_resolution"]
    assert [session.setup for session in farm.sessions] == [expected] * 2
    with pytest.raises(AttributeError, match="did you mean `set_resolution`"):
        two.set_resoluton(3)


def test_frames_are_spread_and_come_in_order(farm: FakeFarm, two: Instances) -> None:
    both = threading.Barrier(2, timeout=QUICKLY_S)

    def render(_: FakeSession, frame: int, **__: Any) -> None:
        if frame in (1, 2):
            both.wait()

    farm.operations["render"] = render
    found = two.render_animation(end=20)
    assert [one["transform_matrix"] for one in found["frames"]] == [pose(n) for n in range(1, 21)]
    assert rendered(farm) == list(range(1, 21))
    assert two.render_animation(end=20) == found
    assert rendered(farm) == list(range(1, 21))


def test_work_begins_with_the_first_and_later_ones_catch_up(farm: FakeFarm, tmp_path: Path) -> None:
    farm.places = 1
    grown = threading.Event()

    def render(session: FakeSession, **_: Any) -> None:
        if session.id == 1 and len(session.frames) > 1:
            farm.offer(2)
            assert grown.wait(QUICKLY_S)
        elif session.id == 2:
            grown.set()

    farm.operations["render"] = render
    with Instances(farm, 2, logger=quiet()) as two:
        two.initialize("a.blend", tmp_path)
        two.set_resolution(4, 5)
        two.reset()
        two.use_motion_blur(True)
        two.set_current_frame(3)
        assert len(two.render_frames(range(10))["frames"]) == 10
    first, second = farm.sessions
    assert first.setup == ["set_resolution", "reset", "use_motion_blur", "set_current_frame"]
    assert second.setup == ["use_motion_blur", "set_current_frame"]
    assert second.frames and rendered(farm) == list(range(10))


def test_an_instance_that_dies_gives_its_frames_back(farm: FakeFarm, two: Instances) -> None:
    two.set_resolution(4, 5)

    def render(session: FakeSession, **_: Any) -> None:
        if session.id == 1 and len(session.frames) == 2:
            raise Dies("out of memory")
        time.sleep(0.005)

    farm.operations["render"] = render
    found = two.render_frames(range(30))
    assert [one["transform_matrix"] for one in found["frames"]] == [pose(n) for n in range(30)]
    eventually(lambda: two.ready_count() == 2)
    assert farm.sessions[0].ended == "out of memory"
    assert farm.sessions[2].setup == ["set_resolution"]
    assert set(rendered(farm)) == set(range(30))


def test_the_only_one_is_replaced_too(farm: FakeFarm, tmp_path: Path) -> None:
    def render(session: FakeSession, **_: Any) -> None:
        if session.id < 3:
            raise Dies("power failure")

    farm.operations["render"] = render
    with Instances(farm, 1, logger=quiet()) as one:
        one.initialize("a.blend", tmp_path)
        assert len(one.render_frames(range(5))["frames"]) == 5
    assert len(farm.sessions) == 3


def test_a_frame_that_kills_every_instance_is_told(farm: FakeFarm, two: Instances) -> None:
    def render(_: FakeSession, frame: int, **__: Any) -> None:
        if frame == 3:
            raise Dies("out of memory")

    farm.operations["render"] = render
    with pytest.raises(InstanceLost, match=r"frame 3 lost its instance 4 times.*out of memory"):
        two.render_frames(range(6))


def test_instances_that_never_live_are_given_up(farm: FakeFarm, tmp_path: Path) -> None:
    def ping(_: FakeSession) -> None:
        raise Dies("no driver")

    farm.operations["ping"] = ping
    with Instances(farm, 2, logger=quiet()) as two:
        with pytest.raises(InstanceLost, match=r"4 instances were lost in a row.*no driver"):
            two.initialize("a.blend", tmp_path)
        with pytest.raises(InstanceLost, match="no driver"):
            two.reset()
    assert len(farm.sessions) == 8


def test_one_that_dies_in_a_call_is_replaced(farm: FakeFarm, two: Instances) -> None:
    def use_motion_blur(session: FakeSession, **_: Any) -> None:
        if session.id < 3:
            raise Dies("out of memory")

    farm.operations["use_motion_blur"] = use_motion_blur
    two.use_motion_blur(True)
    eventually(lambda: two.ready_count() == 2)
    assert [session.setup for session in farm.sessions[2:]] == [["use_motion_blur"]] * 2


def test_more_instances_than_frames_are_no_trouble(farm: FakeFarm, tmp_path: Path) -> None:
    with Instances(farm, 5, logger=quiet()) as five:
        five.initialize("a.blend", tmp_path)
        assert len(five.render_frame(7)["frames"]) == 1
        assert rendered(farm) == [7]
        assert five.render_frames([])["frames"] == []
    assert not farm.living


def test_a_slow_one_holds_nobody_up(farm: FakeFarm, two: Instances) -> None:
    """It renders the one frame that it has while the other one renders all that is left."""
    begun, others = threading.Event(), threading.Event()

    def render(session: FakeSession, **_: Any) -> None:
        if session.id == 1:
            begun.set()
            assert others.wait(QUICKLY_S)
            return
        assert begun.wait(QUICKLY_S)
        if len(session.frames) == 19:
            others.set()

    farm.operations["render"] = render
    two.render_frames(range(20))
    assert len(farm.sessions[0].frames) == 1


def test_nothing_waits_at_one_that_is_known_as_slow(farm: FakeFarm, two: Instances) -> None:
    def render(session: FakeSession, **_: Any) -> float:
        slow = session.id == 1
        time.sleep(0.2 if slow else 0.01)
        return 0.2 if slow else 0.01

    farm.operations["render"] = render
    begun = time.monotonic()
    two.render_frames(range(40))
    assert time.monotonic() - begun < 0.75
    assert rendered(farm) == list(range(40))


def test_errors_of_a_frame_are_raised_at_once(farm: FakeFarm, two: Instances) -> None:
    go_on = threading.Event()

    def render(_: FakeSession, frame: int, **__: Any) -> None:
        if frame == 1:
            raise ValueError("no such pass")
        assert go_on.wait(QUICKLY_S)

    farm.operations["render"] = render
    with pytest.raises(ValueError, match="no such pass"):
        two.render_frames(range(4))
    go_on.set()


def test_wrong_calls_say_what_is_right(farm: FakeFarm, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ask for 1 or more"):
        Instances(farm, 0)
    two = Instances(farm, 2)
    with pytest.raises(GrangeError, match="no scene is open"):
        two.reset()
    two.initialize("a.blend")
    with pytest.raises(ValueError, match="with a folder"):
        two.render_frame(1)
    two.initialize("b.blend", tmp_path)
    assert {one.body["name"] for one in farm.living} == {"b"}
    two.close()
    with pytest.raises(InstanceLost, match="were closed"):
        two.reset()


def test_closing_in_the_middle_ends_a_render(farm: FakeFarm, two: Instances) -> None:
    def render(session: FakeSession, **_: Any) -> None:
        with farm.changed:
            farm.changed.wait_for(lambda: session.ended is not None, QUICKLY_S)

    farm.operations["render"] = render
    closer = threading.Timer(0.05, two.close)
    closer.start()
    with pytest.raises(InstanceLost):
        two.render_frames(range(4))
    closer.join()
