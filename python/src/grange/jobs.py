"""Jobs of a farm and what they have rendered.

Owns a client's view of a job, and the folder that its files are saved to. What a job is made of is
decided by `Farm.submit`; what happens to it, by the farm.
"""

from __future__ import annotations

import os
import stat
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from ._folder import below
from ._http import Api, output_path
from .errors import JobFailed

FINAL = frozenset({"completed", "canceled", "failed"})
"""States in which nothing more happens unless somebody retries."""
DOWNLOADS = 4
"""Files on their way from a farm at once."""
NO_OUTPUTS = 2**62
"""A cursor after which there are none."""


class Update(Protocol):
    """Told of progress: what `progress.Progress` gives, or any function with these arguments."""

    def __call__(self, *, total: float, completed: float) -> object:
        """Frames in all, and those that are done."""
        ...


@dataclass(frozen=True)
class JobProgress:
    """How far a job is."""

    frames_total: int
    frames_done: int
    fraction: float
    """Done share, 0 to 1, with the parts of frames that are being rendered."""
    frames_per_minute: float
    """Over the last minutes; 0 before the first frame."""
    seconds_left: float | None
    """To the end at that rate; `None` before it is known."""
    outputs: int
    """Files that can be fetched."""
    output_bytes: int


@dataclass(frozen=True)
class Output:
    """A file that a job has rendered and the farm keeps."""

    job: int
    name: str
    """Unique in its job, with slashes: `0001.png`, `depth/0001.exr`."""
    role: str
    """`frame`; `extra` for what File Output nodes wrote; `preview` for a video."""
    frame: int
    """The frame it belongs to; 0 if it belongs to none."""
    hash: str
    """BLAKE3, 64 hexadecimal digits."""
    len: int
    """Bytes."""
    cursor: int
    """Its place in the order of commits."""
    since: float = field(repr=False)
    """When its job was submitted: seconds since 1970, by the farm's clock."""
    api: Api = field(repr=False, compare=False)

    def save(self, dir: str | os.PathLike[str]) -> Path:
        """Saves it under its name in a folder, which is made if need be; returns its path.

        A file that is there, is as long and is younger than the job is kept. There is never half a
        file under the name. Raises `OSError` if it cannot be written.
        """
        path = below(dir, self.name)
        if not self._is_there(path):
            self.api.download(output_path(self.job, self.name), path, self.len)
        return path

    def _is_there(self, path: Path) -> bool:
        try:
            there = path.lstat()
        except OSError:
            return False
        # A link is replaced, wherever it leads.
        if not stat.S_ISREG(there.st_mode):
            return False
        return there.st_size == self.len and there.st_mtime >= self.since


@dataclass(frozen=True)
class Task:
    """A part of a job, one frame or several in a row, as it is rendered."""

    step: int
    task: int
    label: str
    """For people: `frame 12`, `Front, frame 1`."""
    state: str
    """`waiting`, `ready`, `running`, `completed`, `failed` or `canceled`."""
    agent: str | None
    """The host that has it."""
    device: int | None
    """Which of that host's devices: a place in its `devices`, as `Farm.agents` tells them."""
    stage: str | None
    """Of one that runs: `fetching`, `queued`, `loading`, `rendering` or `uploading`."""
    fraction: float
    """Done share, 0 to 1."""
    sample: int
    """Samples of the frame that are done; 0 if the engine does not tell."""
    samples: int
    """Samples of the frame in all; 0 if the engine does not tell."""
    reason: str | None
    """Why its latest attempt failed, if one has."""


@dataclass(frozen=True)
class Log:
    """What Blender printed in one attempt at a task."""

    step: int
    task: int
    agent: str
    failed: bool
    at: float
    """Seconds since 1970."""
    text: str


class Job:
    """A job of a farm. What it tells of itself is as of its last `refresh` or `wait`."""

    def __init__(self, api: Api, view: dict[str, Any]) -> None:
        self._api = api
        self._view = view
        self.id: int = view["id"]
        """Its number, as `grange jobs` shows it."""

    def __repr__(self) -> str:
        return f"<grange.Job {self.id} {self.name!r} {self.state}>"

    @property
    def name(self) -> str:
        """What people call it."""
        return self._view["name"]

    @property
    def submitter(self) -> str:
        """Whose it is: the name of a token or an identity."""
        return self._view["submitter"]

    @property
    def state(self) -> str:
        """`queued`, `active`, `paused`, `completed`, `canceled` or `failed`."""
        return self._view["state"]

    @property
    def reason(self) -> str | None:
        """Why it failed or does not go on, as a sentence."""
        return self._view["reason"]

    @property
    def kept(self) -> bool:
        """Whether it stays with its files, however old it gets (`keep`)."""
        return self._view["kept"]

    @property
    def step(self) -> str | None:
        """The step whose turn it is, such as `preview`; `None` where there is one or none left."""
        return self._view["step"]

    @property
    def tags(self) -> frozenset[str]:
        """Only hosts that have all of these render it."""
        return frozenset(self._view["tags"])

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens unless somebody retries."""
        return self.state in FINAL

    @property
    def progress(self) -> JobProgress:
        """How far it is."""
        told = self._view["progress"]
        return JobProgress(**{name: told[name] for name in JobProgress.__dataclass_fields__})

    @property
    def priority(self) -> int:
        """How urgent it is: 0 (last) to 100 (first). Setting it asks the farm at once."""
        return self._view["priority"]

    @priority.setter
    def priority(self, priority: int) -> None:
        self._view = self._api.put(f"/jobs/{self.id}/priority", {"priority": priority})

    def refresh(self) -> Job:
        """Asks the farm how it is now; returns itself."""
        self._view = self._api.get(f"/jobs/{self.id}")["job"]
        return self

    def wait(
        self, timeout: float | None = None, update: Update | None = None, *, check: bool = True
    ) -> Job:
        """Waits until it is over; returns itself.

        `update` is told of every change. Raises `TimeoutError` after `timeout` seconds, and with
        `check` `JobFailed` if it failed or was canceled.
        """
        until = None if timeout is None else time.monotonic() + timeout
        for _ in self._follow(NO_OUTPUTS, until, update):
            pass
        if not self.is_over:
            raise TimeoutError(f"job {self.id} is not over after {timeout} s: wait longer")
        return self._checked(check)

    def outputs(self, follow: bool = True) -> Iterator[Output]:
        """Its outputs in the order of their commits.

        With `follow`, those to come as well, until the job is over; otherwise those that there are.
        """
        if not follow:
            return self._since(0)
        return (out for out in self._follow(0, None, None) if isinstance(out, Output))

    def fetch(
        self, dir: str | os.PathLike[str], update: Update | None = None, *, check: bool = True
    ) -> list[Path]:
        """Saves all of its outputs to a folder while they come, until the job is over.

        Files that are there already and whole are kept (see `Output.save`). Returns the paths in
        the order of the commits. With `check`, raises `JobFailed` if the job failed or was
        canceled, after what there is was saved.
        """
        paths: list[Path] = []
        saving: deque[Future[Path]] = deque()
        pool = ThreadPoolExecutor(DOWNLOADS, thread_name_prefix="grange-fetch")
        try:
            for output in self._follow(0, None, update):
                if isinstance(output, Output):
                    saving.append(pool.submit(output.save, dir))
                # One that failed is told now, not when the job is over.
                while saving and saving[0].done():
                    paths.append(saving.popleft().result())
            paths.extend(saved.result() for saved in saving)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        self._checked(check)
        return paths

    def changes(
        self, after: int = 0, *, poll_s: float | None = None
    ) -> Iterator[Output | Task | None]:
        """What happens to it, as it happens, until it is over: outputs in the order of their
        commits, the tasks that run or have changed, and `None` whenever this object is news itself.

        Outputs come from the cursor `after` on. With `poll_s` the farm is asked again after so many
        seconds, for networks that do not let a lasting answer through. First comes how it is now.
        """
        if poll_s is None:
            return self._follow(after, None, None)
        return self._poll(after, poll_s)

    def cancel(self) -> Job:
        """Stops it for good; what was rendered is kept. Returns itself."""
        return self._act("cancel")

    def pause(self) -> Job:
        """Lets it begin nothing new; returns itself."""
        return self._act("pause")

    def resume(self) -> Job:
        """Lets it go on; returns itself."""
        return self._act("resume")

    def retry(self) -> Job:
        """Tries its failed and canceled tasks anew; returns itself."""
        return self._act("retry")

    def keep(self) -> Job:
        """Keeps it and its files, however old they get; returns itself."""
        return self._act("keep")

    def release(self) -> Job:
        """Lets it be collected like all others, when it was kept; returns itself."""
        return self._act("release")

    def delete(self) -> None:
        """Forgets it with its outputs and logs, for good. It must have ended."""
        self._api.delete(f"/jobs/{self.id}")

    def logs(self, *, failed: bool = False) -> Iterator[Log]:
        """What Blender printed, the latest first; with `failed` only where an attempt failed."""
        for row in pages(self._api, f"/jobs/{self.id}/logs", failed=True if failed else None):
            yield Log(
                row["step"],
                row["task"],
                row["agent"],
                row["failed"],
                row["at"] / 1000,
                row["text"],
            )

    def _act(self, action: str) -> Job:
        self._view = self._api.post(f"/jobs/{self.id}/{action}", repeat=True)
        return self

    def _checked(self, check: bool) -> Job:
        if check and self.state in {"failed", "canceled"}:
            raise JobFailed(self.id, self.state, self.reason)
        return self

    def _follow(
        self, cursor: int, until: float | None, update: Update | None
    ) -> Iterator[Output | Task | None]:
        """Outputs after a cursor as they are committed, tasks, and `None` for the job itself.

        Ends when the job is over and all is told, or when the time is.
        """
        caught_up = False
        path = f"/jobs/{self.id}/events"
        for event in self._api.events(path, until=until, outputs_after=cursor):
            told = event.json()
            if told == "caughtup":
                caught_up = True
            elif "output" in told:
                output = self._output(told["output"]["output"])
                cursor = max(cursor, output.cursor)
                yield output
            elif "task" in told:
                yield _task(told["task"]["task"])
            elif "job" in told:
                self._view = told["job"]
                if update is not None:
                    progress = self.progress
                    update(total=progress.frames_total, completed=progress.frames_done)
                yield None
            elif "jobgone" in told:
                # Somebody deleted it; the answer says so.
                self.refresh()
            if caught_up and self.is_over:
                break
        if self.is_over:
            # The news that it is over may overtake those of its last outputs.
            yield from self._since(cursor)

    def _poll(self, cursor: int, pause_s: float) -> Iterator[Output | Task | None]:
        while True:
            told = self._api.get(f"/jobs/{self.id}")
            self._view = told["job"]
            yield None
            for view in told["tasks"]:
                yield _task(view)
            for output in self._since(cursor):
                cursor = max(cursor, output.cursor)
                yield output
            if self.is_over:
                return
            time.sleep(pause_s)

    def _since(self, cursor: int) -> Iterator[Output]:
        for row in pages(self._api, f"/jobs/{self.id}/outputs", cursor=cursor):
            yield self._output(row)

    def _output(self, row: dict[str, Any]) -> Output:
        output = row["output"]
        return Output(
            job=self.id,
            name=output["name"],
            role=output["role"],
            frame=output["frame"],
            hash=output["blob"]["hash"],
            len=output["blob"]["len"],
            cursor=row["cursor"],
            since=self._view["submitted_at"] / 1000,
            api=self._api,
        )


def _task(view: dict[str, Any]) -> Task:
    told: dict[str, Any] = view["progress"] or {}
    failures: list[dict[str, Any]] = view["failures"]
    return Task(
        step=view["step"],
        task=view["task"],
        label=view["label"],
        state=view["state"],
        agent=view["agent"],
        device=view["device"],
        stage=told.get("stage"),
        fraction=told.get("fraction", 0.0),
        sample=told.get("sample", 0),
        samples=told.get("samples", 0),
        reason=failures[-1]["reason"] if failures else None,
    )


def pages(api: Api, path: str, **query: object) -> Iterator[dict[str, Any]]:
    """The rows of a list that comes in pages."""
    while True:
        page = cast(dict[str, Any], api.get(path, **query))
        yield from page["items"]
        if page["next"] is None:
            return
        query["cursor"] = page["next"]
