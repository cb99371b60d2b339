"""`Progress`: one bar for all, and one for each task while it runs.

Works in a terminal, in a notebook (with ipywidgets), and where there is neither, as plain lines now
and then. Owns one thread that draws what has changed, ten times a second at most and once a second
for the clock; whoever waits sleeps until the last task has ended.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, cast

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

DRAW_S = 0.1
"""Between two drawings of what has changed."""
CLOCK_S = 1.0
"""Between two when nothing has."""
PLAIN_S = 10.0
"""Between two lines where there are no bars."""


class Task:
    """Something that goes on and ends. `Progress.add_task` makes them.

    It is called with what is new: `task(total=24)`, `task(advance=1)`, and `task(partial=0.4)` for
    how much of the frames under way is done, in frames. So it is an `update` for the render calls.
    """

    def __init__(self, progress: Progress, description: str, total: float | None) -> None:
        self.description = description
        self.total = total
        """How much there is to do; `None` if nobody knows yet."""
        self.completed = 0.0
        """How much of it is done."""
        self.partial = 0.0
        """How much of what is under way."""
        self.state = "waiting"
        """`waiting`, `running`, `done` or `failed`."""
        self._progress = progress
        self._tied = False

    def __call__(
        self,
        *,
        total: float | None = None,
        advance: float | None = None,
        completed: float | None = None,
        partial: float | None = None,
    ) -> None:
        """Tells what is new: how much there is in all, how much more is done or how much is, and
        how much of what is under way. The task is done when all of its total is; one that was given
        to a call of a pool is done when that call has ended.
        """
        with self._progress.changing:
            if self.state == "failed":
                return
            self.total = self.total if total is None else total
            self.partial = self.partial if partial is None else partial
            self.completed = self.completed if completed is None else completed
            if advance is not None:
                self.completed += advance
            all_done = self.total is not None and self.completed >= self.total
            self.state = "done" if all_done and not self._tied else "running"

    def tick(
        self,
        *,
        total: float | None = None,
        advance: float | None = None,
        completed: float | None = None,
        partial: float | None = None,
    ) -> None:
        """The same as calling the task."""
        self(total=total, advance=advance, completed=completed, partial=partial)

    def end(self, error: BaseException | None = None) -> None:
        """Whatever is still to do, it has ended: as done, or as failed."""
        with self._progress.changing:
            self.state = "failed" if error else "done"
            self.partial = 0.0

    def tie(self) -> None:
        """From now on it ends when `end` is called, and not by its count."""
        with self._progress.changing:
            self._tied = True

    def restart(self) -> None:
        """All of it is to be done again."""
        with self._progress.changing:
            self.completed, self.partial, self.state = 0.0, 0.0, "waiting"

    @property
    def ended(self) -> bool:
        """Whether it is done or failed."""
        return self.state in ("done", "failed")

    @property
    def share(self) -> float:
        """How much of it is done, 0..1."""
        if self.ended:
            return 1.0
        if not self.total:
            return 0.0
        return min((self.completed + self.partial) / self.total, 1.0)


class Progress:
    """Bars for tasks, drawn inside of its `with` block."""

    def __init__(self, *, console: Console | None = None) -> None:
        """The `console` is rich's; by default the terminal's."""
        self._console = console or Console()
        self._tasks: list[Task] = []
        self.changing = Changing()
        """Held while a task changes."""
        self._display: Display | None = None

    def add_task(self, description: str, total: float | None = None) -> Task:
        """A new task. Its bar is there from the first news of it until it is done."""
        task = Task(self, description, total)
        with self.changing:
            self._tasks.append(task)
        return task

    @property
    def tasks(self) -> list[Task]:
        """All tasks, in the order that they were added in."""
        return list(self._tasks)

    def wait(self, timeout: float | None = None) -> bool:
        """Sleeps until all tasks have ended, at most `timeout` seconds; whether they have. A task
        that failed has ended; so has one whose call a pool will never begin.
        """
        return self.changing.wait_for(lambda: all(task.ended for task in self._tasks), timeout)

    def __enter__(self) -> Progress:
        shown = self._console.is_terminal
        if self._console.is_jupyter:
            shown = importlib.util.find_spec("ipywidgets") is not None
        self._display = (BarDisplay if shown else LineDisplay)(self, self._console)
        self._display.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._display:
            self._display.stop()
            self._display = None


class Changing:
    """A lock around changes, after which everybody who waits looks again."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._count = 0

    def __enter__(self) -> None:
        self._condition.acquire()

    def __exit__(self, *_: object) -> None:
        self._count += 1
        self._condition.notify_all()
        self._condition.release()

    def wait_for(self, holds: Callable[[], bool], timeout: float | None) -> bool:
        """Sleeps until it holds, at most `timeout` seconds; whether it does."""
        with self._condition:
            return self._condition.wait_for(holds, timeout)

    def wait(self, seen: int, timeout: float | None) -> int:
        """Sleeps until there are more changes than were seen; how many there are."""
        with self._condition:
            self._condition.wait_for(lambda: self._count > seen, timeout)
            return self._count


class Display:
    """Draws in a thread of its own."""

    pause_s = DRAW_S
    clock_s: float | None = CLOCK_S

    def __init__(self, progress: Progress, console: Console) -> None:
        self._progress = progress
        self._console = console
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="grange-progress", daemon=True)

    def start(self) -> None:
        """Begins to draw."""
        self._thread.start()

    def stop(self) -> None:
        """Draws for the last time."""
        self._stopped.set()
        with self._progress.changing:
            pass
        self._thread.join()
        self.draw(self._progress.tasks)

    def draw(self, tasks: list[Task]) -> None:
        """Shows how things are."""
        raise NotImplementedError

    def _run(self) -> None:
        seen = 0
        while not self._stopped.is_set():
            seen = self._progress.changing.wait(seen, self.clock_s)
            # Nobody holds on to the lock of tasks while something is drawn.
            if not self._stopped.is_set():
                self.draw(self._progress.tasks)
                self._stopped.wait(self.pause_s)


class BarDisplay(Display):
    """Bars of rich's."""

    def __init__(self, progress: Progress, console: Console) -> None:
        super().__init__(progress, console)
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            console=console,
            auto_refresh=False,
        )
        self._overall = self._bars.add_task("all", total=1, count="")
        self._ids: dict[Task, TaskID] = {}

    def start(self) -> None:
        """Shows the bars."""
        self._bars.start()
        super().start()

    def stop(self) -> None:
        """Leaves them as they are at last."""
        try:
            super().stop()
        finally:
            self._bars.stop()

    def draw(self, tasks: list[Task]) -> None:
        """A bar for each task that runs, and one for all."""
        ended = sum(task.ended for task in tasks)
        share = sum(task.share for task in tasks)
        count = f"{ended}/{len(tasks)}"
        failed = sum(task.state == "failed" for task in tasks)
        count += f", {failed} failed" if failed else ""
        self._bars.update(self._overall, total=max(len(tasks), 1), completed=share, count=count)
        for task in tasks:
            self._draw_one(task)
        self._bars.refresh()

    def _draw_one(self, task: Task) -> None:
        known = task in self._ids
        if task.state in ("waiting", "done"):
            # Not yet, or its bar has served its turn.
            if known:
                self._bars.remove_task(self._ids.pop(task))
            return
        if not known:
            self._ids[task] = self._bars.add_task(task.description, total=task.total, count="")
        failed, name = task.state == "failed", escape(task.description)
        total = "?" if task.total is None else f"{task.total:g}"
        self._bars.update(
            self._ids[task],
            description=f"[red]{name}" if failed else name,
            total=task.total,
            completed=task.completed + task.partial,
            count="failed" if failed else f"{task.completed:g}/{total}",
        )


class LineDisplay(Display):
    """A line now and then, if it says something new."""

    pause_s = PLAIN_S
    clock_s = None

    def __init__(self, progress: Progress, console: Console) -> None:
        super().__init__(progress, console)
        self._last = ""

    def draw(self, tasks: list[Task]) -> None:
        """A line when there is news."""
        if not tasks:
            return
        ended = sum(task.ended for task in tasks)
        failed = sum(task.state == "failed" for task in tasks)
        percent = 100 * sum(task.share for task in tasks) / len(tasks)
        line = f"{percent:.0f} %, {ended} of {len(tasks)} done"
        line += f", {failed} of them failed" if failed else ""
        if line != self._last:
            self._last = line
            self._console.print(line, highlight=False, soft_wrap=True)


def tasks_in(args: Iterable[Any], named: Mapping[str, Any]) -> list[Task]:
    """The tasks among a call's arguments, in lists and dictionaries of these too."""
    found: list[Task] = []
    for value in (*args, *named.values()):
        several: Iterable[Any] = (value,)
        if isinstance(value, (list, tuple, set, frozenset)):
            several = cast("Iterable[Any]", value)
        elif isinstance(value, dict):
            several = cast("dict[Any, Any]", value).values()
        for one in several:
            # A task, or its method.
            task = getattr(one, "__self__", one)
            if isinstance(task, Task) and task not in found:
                found.append(task)
    return found
