"""The pool: the standard one's semantics, and a farm's accidents."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import QUICKLY_S, Dies, FakeFarm, FakeSession

from grange import pool as pools
from grange.blender import Blender
from grange.errors import GrangeError, InstanceLost, RemoteTraceback
from grange.pool import Pool
from grange.progress import Progress


@pytest.fixture
def pool(farm: FakeFarm) -> Iterator[Pool]:
    with Pool(farm) as pool:
        yield pool
    assert not farm.living and not farm.held


def square(blender: Blender, number: int) -> int:
    blender.initialize("a.blend")
    return blender.call("echo", n=number * number)["n"]


def add(_: Blender, a: int, b: int = 0) -> int:
    return a + b


def fails(_: Blender, number: int) -> int:
    if number == 2:
        raise KeyError(number)
    return number


def test_all_forms_give_what_the_standard_pool_gives(pool: Pool) -> None:
    assert pool.apply(add, (1,), {"b": 2}) == 3
    assert pool.map(square, range(9)) == [n * n for n in range(9)]
    assert pool.map(square, range(7), chunksize=3) == [n * n for n in range(7)]
    assert pool.starmap(add, [(1, 2), [3, 4]]) == [3, 7]
    assert list(pool.imap(square, range(9))) == [n * n for n in range(9)]
    assert list(pool.imap(square, range(9), 4)) == [n * n for n in range(9)]
    assert sorted(pool.imap_unordered(square, range(9))) == [n * n for n in range(9)]
    assert pool.apply_async(add, (1, 2)).get(QUICKLY_S) == 3
    assert pool.map_async(square, [3]).get(QUICKLY_S) == [9]
    assert pool.starmap_async(add, [(5,)]).get(QUICKLY_S) == [5]
    assert pool.map(square, []) == [] and list(pool.imap(square, [])) == []


def test_results_to_come(pool: Pool) -> None:
    go_on = threading.Event()
    result = pool.apply_async(lambda _: go_on.wait(QUICKLY_S))
    assert not result.ready()
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(0.01)
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    result.wait(0.01)
    go_on.set()
    result.wait()
    assert result.ready() and result.successful() and result.get() is True
    blocked = threading.Event()
    results = pool.imap(lambda _, event: event.wait(QUICKLY_S), [blocked])
    with pytest.raises(multiprocessing.TimeoutError):
        results.next(timeout=0.01)
    blocked.set()
    assert results.next(QUICKLY_S) is True
    with pytest.raises(StopIteration):
        results.next()


def test_callbacks_come_once_and_before_the_result(pool: Pool) -> None:
    heard: list[Any] = []
    pool.map_async(square, [1, 2], callback=heard.append, error_callback=heard.append).get()
    assert heard == [[1, 4]]
    failed = pool.map_async(fails, range(4), callback=heard.append, error_callback=heard.append)
    failed.wait()
    assert len(heard) == 2 and isinstance(heard[1], KeyError) and not failed.successful()

    def bad(_: object) -> None:
        raise RuntimeError("mine")

    assert pool.apply_async(add, (1,), callback=bad).get(QUICKLY_S) == 1


def test_errors_come_back_as_they_were(farm: FakeFarm, pool: Pool) -> None:
    with pytest.raises(KeyError, match="2"):
        pool.map(fails, range(5))
    results = pool.imap(fails, range(4))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyError):
        next(results)
    assert list(results) == [3]

    def remote(_: FakeSession, **__: Any) -> None:
        raise ValueError("no such format")

    def function(blender: Blender) -> None:
        blender.initialize("a.blend")
        blender.image_settings("XYZ")

    farm.operations["image_settings"] = remote
    with pytest.raises(ValueError, match="no such format") as caught:
        pool.apply(function)
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    with pytest.raises(SystemExit):
        pool.apply(lambda _: exec("raise SystemExit(3)"))


def test_the_first_error_of_a_chunk_ends_it(pool: Pool) -> None:
    made: list[int] = []

    def function(_: Blender, number: int) -> None:
        made.append(number)
        if number % 3 == 1:
            raise ValueError(number)

    with pytest.raises(ValueError, match=r"1|4"):
        pool.map(function, range(6), chunksize=3)
    assert sorted(made) == [0, 1, 3, 4]


def test_an_iterable_that_fails_is_told(pool: Pool) -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    results = pool.imap(square, numbers())
    assert next(results) == 1
    with pytest.raises(OSError, match="gone"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_items_are_taken_as_there_is_room(pool: Pool) -> None:
    def endless() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    results = pool.imap(square, endless())
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    pool.terminate()


def test_wrong_calls_say_so(farm: FakeFarm) -> None:
    with pytest.raises(ValueError, match="ask for 1 or more"):
        Pool(farm, 0)
    pool = Pool(farm)
    with pytest.raises(ValueError, match="Chunksize"):
        pool.map(square, [1], chunksize=0)
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    pool.close()
    for call in (lambda: pool.apply(add, (1,)), lambda: pool.imap(square, [1]), pool.__enter__):
        with pytest.raises(ValueError, match="not running"):
            call()
    pool.join()


def test_as_many_as_there_is_room_for_and_one(farm: FakeFarm, pool: Pool) -> None:
    """The one more waits at the farm, which sees so that more are wanted."""
    begun: list[int] = []
    go_on = threading.Event()
    farm.offer(3)

    def function(blender: Blender, number: int) -> None:
        begun.append(number)
        blender.initialize(f"{number}.blend")
        go_on.wait(QUICKLY_S)

    result = pool.map_async(function, range(8))
    until = time.monotonic() + QUICKLY_S
    while len(farm.sessions) < 4:
        assert time.monotonic() < until
        time.sleep(0.002)
    time.sleep(0.05)
    assert len(begun) == 4 and [one.placed for one in farm.living] == [True] * 3 + [False]
    go_on.set()
    result.get(QUICKLY_S)
    assert sorted(begun) == list(range(8))


def test_a_limit_is_kept(farm: FakeFarm) -> None:
    farm.offer(8)
    running, most = 0, 0
    lock = threading.Lock()

    def function(_: Blender, number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= 1
        return number

    with Pool(farm, 2) as pool:
        assert pool.map(function, range(10)) == list(range(10))
    assert most == 2


def test_only_hosts_with_the_tags_are_asked(farm: FakeFarm) -> None:
    with Pool(farm, tags=["night", "big"]) as pool:
        pool.map(square, range(2))
    assert farm.room_of == {"big", "night"}
    assert {tuple(one.body["tags"]) for one in farm.sessions} == {("big", "night")}


def test_room_that_grows_is_used(farm: FakeFarm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "LOOK_S", 0.02)
    farm.offer(1)
    all_there = threading.Barrier(4, timeout=QUICKLY_S)

    def function(_: Blender, number: int) -> None:
        if number == 1:
            farm.offer(4)
        all_there.wait()

    with Pool(farm) as pool:
        pool.map(function, range(4))


def test_clients_of_one_scene_are_used_again(farm: FakeFarm) -> None:
    with Pool(farm, 1) as pool:
        pool.map(square, range(5))
        assert len(farm.sessions) == 1
        assert farm.sessions[0].setup == ["echo"] + ["reset", "echo"] * 4
        pool.apply(lambda blender: blender.initialize("b.blend"))
        assert [one.body["name"] for one in farm.living] == ["b"]


def test_an_idle_session_makes_way_for_a_call_that_waits(farm: FakeFarm) -> None:
    """One instance, two scenes at once: the second call's session waits at the farm until the
    first call's has ended, which nobody will use again."""
    farm.offer(1)

    def function(blender: Blender, scene: str) -> str:
        blender.initialize(scene)
        until = time.monotonic() + QUICKLY_S
        while len(farm.sessions) < 2:
            assert time.monotonic() < until
            time.sleep(0.002)
        return scene

    with Pool(farm) as pool:
        scenes = ["a.blend", "b.blend"]
        assert pool.map_async(function, scenes).get(QUICKLY_S) == scenes


def test_nobody_who_waits_is_overtaken(farm: FakeFarm) -> None:
    """One instance, and one call more than that, as ever: it gets what the first one leaves behind,
    and what it has asked the farm for waits on for the next one."""
    farm.offer(1)
    ended: list[int] = []

    def function(blender: Blender, number: int) -> None:
        blender.initialize("a.blend")
        until = time.monotonic() + QUICKLY_S
        # The next one waits already.
        while number < 5 and not pool._shelf._waiters:
            assert time.monotonic() < until
            time.sleep(0.002)
        ended.append(number)

    with Pool(farm) as pool:
        pool.map_async(function, range(6)).get(QUICKLY_S)
    assert ended == list(range(6))
    assert [one.setup for one in farm.sessions] == [["reset"] * 5, []]
    assert not farm.living and not farm.held


def test_a_session_that_ended_while_idle_is_replaced(farm: FakeFarm) -> None:
    with Pool(farm, 1) as pool:
        assert pool.apply(square, (2,)) == 4
        farm.end(farm.sessions[0], "it was idle for too long")
        assert pool.apply(square, (3,)) == 9
    assert len(farm.sessions) == 2


def test_a_lost_instance_runs_the_call_again(farm: FakeFarm, pool: Pool, tmp_path: Path) -> None:
    def render(session: FakeSession, frame: int, **_: Any) -> None:
        if session.id in (1, 2) and frame == 3:
            raise Dies("out of memory")

    def function(blender: Blender, name: str) -> int:
        blender.initialize("a.blend", tmp_path / name)
        return len(blender.render_animation()["frames"])

    farm.operations["render"] = render
    assert pool.map(function, "abcd") == [4] * 4
    assert len(list(tmp_path.rglob("*.png"))) == 16


def test_a_call_that_loses_every_instance_is_told(farm: FakeFarm, pool: Pool) -> None:
    def echo(_: FakeSession, **__: Any) -> None:
        raise Dies("out of memory")

    farm.operations["echo"] = echo
    with pytest.raises(InstanceLost, match=r"`square` lost its instance 4 times.*out of memory"):
        pool.apply(square, (1,))
    assert len(farm.sessions) == 4


def test_terminating_ends_sessions_at_once(farm: FakeFarm) -> None:
    waiting = threading.Semaphore(0)

    def hangs(session: FakeSession) -> None:
        waiting.release()
        with farm.changed:
            farm.changed.wait_for(lambda: session.ended is not None, QUICKLY_S)

    def function(blender: Blender, number: int) -> None:
        blender.initialize(f"{number}.blend")
        blender.unbind_camera()

    farm.operations["unbind_camera"] = hangs
    pool = Pool(farm)
    mapped = pool.map_async(function, range(10))
    streamed = pool.imap(function, range(10))
    for _ in range(2):
        assert waiting.acquire(timeout=QUICKLY_S)
    pool.terminate()
    pool.join()
    for take in (mapped.get, streamed.next):
        with pytest.raises(GrangeError, match="terminated"):
            take(QUICKLY_S)
    with pytest.raises(StopIteration):
        streamed.next(QUICKLY_S)
    until = time.monotonic() + QUICKLY_S
    while farm.living:
        assert time.monotonic() < until
        time.sleep(0.002)
    assert len(farm.sessions) <= 3


def test_a_block_waits_and_an_error_terminates(farm: FakeFarm) -> None:
    made: list[int] = []

    def slow(_: Blender, number: int) -> None:
        time.sleep(0.02)
        made.append(number)

    with Pool(farm) as pool:
        pool.map_async(slow, range(5))
    assert sorted(made) == list(range(5))
    with pytest.raises(KeyError), Pool(farm) as pool:
        result = pool.map_async(slow, range(500))
        raise KeyError
    with pytest.raises(GrangeError, match="terminated"):
        result.get(QUICKLY_S)
    assert len(made) < 20


def test_bars_end_with_their_calls(pool: Pool, tmp_path: Path) -> None:
    """A job that fails, one that tells of nothing, one that ends early: nobody hangs."""

    def function(blender: Blender, number: int, task: Any) -> None:
        if number == 1:
            raise ValueError("mine")
        if number == 2:
            return
        blender.initialize("a.blend", tmp_path / str(number))
        blender.render_animation(update=task)
        if number == 3:
            blender.render_animation(start=10, end=12, update=task)

    progress = Progress()
    tasks = [progress.add_task(str(number)) for number in range(5)]
    for number, task in enumerate(tasks):
        pool.apply_async(function, (number, task.tick if number == 4 else task))
    assert progress.wait(QUICKLY_S)
    assert [task.state for task in tasks] == ["done", "failed", "done", "done", "done"]
    mapped = [progress.add_task("mapped") for _ in range(3)]
    pool.map(lambda _, __: None, [{"task": task} for task in mapped])
    assert progress.wait(0)


def test_bars_of_calls_that_never_begin_end(farm: FakeFarm) -> None:
    go_on = threading.Event()
    progress = Progress()
    pool = Pool(farm, 1)
    pool.map_async(lambda _, __: go_on.wait(QUICKLY_S), [progress.add_task("x") for _ in range(4)])
    assert not progress.wait(0.02)
    pool.terminate()
    assert progress.wait(QUICKLY_S)
    assert {task.state for task in progress.tasks} == {"failed"}
    go_on.set()


def test_a_rerun_starts_its_bar_anew(farm: FakeFarm, pool: Pool, tmp_path: Path) -> None:
    def render(session: FakeSession, frame: int, **_: Any) -> None:
        if session.id == 1 and frame == 4:
            raise Dies("out of memory")

    def function(blender: Blender, task: Any) -> None:
        blender.initialize("a.blend", tmp_path)
        blender.render_animation(update=task)

    farm.operations["render"] = render
    task = Progress().add_task("a")
    pool.apply(function, (task,))
    assert (task.completed, task.total, task.state) == (4, 4, "done")


def test_waiting_costs_nothing(farm: FakeFarm) -> None:
    """Calls under way, one that waits for the farm, bars, and a client that waits for all."""
    farm.offer(1)
    go_on = threading.Event()
    progress = Progress()

    def function(blender: Blender, _: Any) -> None:
        blender.initialize("a.blend")
        go_on.wait(QUICKLY_S)

    with Pool(farm) as pool, progress:
        for number in range(4):
            pool.apply_async(function, (progress.add_task(str(number)),))
        time.sleep(0.2)
        before = time.process_time()
        assert not progress.wait(1.0)
        assert time.process_time() - before < 0.01
        go_on.set()
        assert progress.wait(QUICKLY_S)
