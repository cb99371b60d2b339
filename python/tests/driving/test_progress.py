"""Bars: what they show, and that waiting for them ends when it should."""

from __future__ import annotations

import io
import threading
import time

import pytest
from fakes import QUICKLY_S
from rich.console import Console

from grange import progress as bars
from grange.progress import Progress, Task, tasks_in


def terminal(*, is_one: bool) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, force_terminal=is_one, width=90, height=40, color_system=None), text


def test_a_task_is_told_what_is_new() -> None:
    task = Progress().add_task("scene")
    assert (task.state, task.share) == ("waiting", 0)
    task(total=4)
    task(advance=1, partial=0.5)
    assert (task.state, task.share) == ("running", 0.375)
    task.tick(advance=3, partial=0)
    assert (task.state, task.share) == ("done", 1)


def test_waiting_ends_with_the_last_task() -> None:
    progress = Progress()
    assert progress.wait()
    first, second = progress.add_task("a", total=2), progress.add_task("b")
    first(advance=2)
    assert not progress.wait(0.01)
    threading.Timer(0.02, second.end, (ValueError("mine"),)).start()
    begun = time.monotonic()
    assert progress.wait(QUICKLY_S)
    assert time.monotonic() - begun < 1
    assert (first.state, second.state) == ("done", "failed")
    second(advance=1)
    assert second.state == "failed"


def test_a_tied_task_ends_with_its_call() -> None:
    task = Progress().add_task("a", total=1)
    task.tie()
    task(advance=1)
    assert task.state == "running"
    task.restart()
    assert (task.state, task.completed) == ("waiting", 0)
    task.end()
    assert task.state == "done"


def test_bars_are_drawn_while_their_tasks_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars.BarDisplay, "pause_s", 0.001)
    console, text = terminal(is_one=True)
    with Progress(console=console) as progress:
        waiting, running, failing = (progress.add_task(name) for name in ("later", "now", "bad"))
        running(total=4, advance=1)
        failing(total=2)
        failing.end(ValueError())
        until = time.monotonic() + QUICKLY_S
        while "1/4" not in text.getvalue():
            assert time.monotonic() < until
            time.sleep(0.002)
        assert "later" not in text.getvalue() and "1/3" in text.getvalue()
        running(advance=3)
        waiting.end()
    last = text.getvalue().rsplit("all", 1)[1]
    assert "100 %" in last and "3/3, 1 failed" in last and "bad" in last
    assert "now" not in last


def test_without_a_terminal_there_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars.LineDisplay, "pause_s", 0.001)
    console, text = terminal(is_one=False)
    with Progress(console=console) as progress:
        task = progress.add_task("a", total=4)
        task(advance=1)
        until = time.monotonic() + QUICKLY_S
        while "25 %" not in text.getvalue():
            assert time.monotonic() < until
            time.sleep(0.002)
        task(advance=3)
    assert text.getvalue().endswith("100 %, 1 of 1 done\n")
    with Progress(console=console):
        pass
    assert text.getvalue().count("done") <= 4


def test_odd_numbers_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars.BarDisplay, "pause_s", 0.001)
    console, text = terminal(is_one=True)
    with Progress(console=console) as progress:
        task = progress.add_task("[scene]")
        task(total=0)
        task(total=2, advance=3)
        task.restart()
        task(partial=0.25)
    assert "[scene]" in text.getvalue() and "Traceback" not in text.getvalue()


def test_tasks_are_found_among_arguments() -> None:
    progress = Progress()
    tasks = [progress.add_task(str(number)) for number in range(5)]
    args = (tasks[0], "text", [tasks[1], tasks[0]], {"update": tasks[2].tick})
    assert tasks_in(args, {"task": tasks[3]}) == tasks[:4]
    assert isinstance(tasks[4], Task)


def test_drawing_costs_little() -> None:
    """Eight bars in a terminal, while nothing happens."""
    console, _ = terminal(is_one=True)
    with Progress(console=console) as progress:
        for number in range(8):
            progress.add_task(str(number), total=4)(advance=1)
        time.sleep(0.3)
        before = time.process_time()
        assert not progress.wait(2.0)
        assert time.process_time() - before < 0.04
