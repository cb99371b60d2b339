# SPDX-License-Identifier: GPL-3.0-or-later
"""The link to a farm: threads that send scenes, follow jobs and fetch their pictures.

Owns the connection, and when something is tried again. Never touches bpy: whatever happens is told
by `tell`, from any thread. All threads are daemons, and `close` breaks off what they are doing, so
that Blender can quit at any time.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import told
from .sending import Missing, Order, discarding, refusal

if TYPE_CHECKING:
    from ..vendored import grange

PULSE_S = 10.0
"""How often the farm is asked how it is."""
MORE_EVERY = 6
"""Pulses between questions after what changes seldom."""
RETRY_S = (1.0, 2.0, 5.0, 10.0)
"""Pauses before the farm is tried again; the last one stays."""
SAVERS = 4
"""Files that are fetched at once."""
TELL_EVERY_S = 0.1
"""Of bytes that were sent."""


class Link:
    """One farm, until `close`."""

    def __init__(
        self, connect: str | None, tell: Callable[[told.News], None], poll_s: float | None = None
    ) -> None:
        """Connects to nothing yet: `Lost` and `Met` tell how that goes.

        `connect` is a connect string, or None for the one in the environment or the user's file.
        With `poll_s` jobs are asked after every so many seconds instead of listened to. Raises
        `ValueError` for a connect string that is none, and `grange.NotConnected` if there is none.
        """
        self._grange = package()
        self._tell = tell
        self._poll_s = poll_s
        self._closed = threading.Event()
        self._followed: set[int] = set()
        self._lock = threading.Lock()
        self._saves: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.farm = self._grange.connect(connect, check=False)
        self._start("pulse", self._pulse)
        for _ in range(SAVERS):
            self._start("save", self._save_all)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the HTTP API."""
        return self.farm.api.connect.addresses[0]

    @property
    def authority(self) -> str:
        """The hash of the farm's certificate, which tells farms apart."""
        return self.farm.api.connect.ca

    def submit(self, order: Order) -> None:
        """Sends it; `Submitted` or `NotSubmitted` tells how that went. The copy is removed."""
        self._start("submit", self._submit, order)

    def follow(self, job: int, folder: str, is_fetched: bool = False) -> None:
        """Tells of a job from now on, and saves its pictures, until `Done` or `Gone`.

        Following what is followed does nothing. One that `is_fetched` is told of alone: if its user
        has moved or removed a picture since, it does not come back.
        """
        with self._lock:
            if job in self._followed:
                return
            self._followed.add(job)
        self._start("follow", self._follow, _Following(job, folder, is_fetched))

    def ask(self, job: int, action: str, value: Any = None) -> None:
        """`cancel`, `pause`, `resume`, `retry`, or `priority` with a value."""
        self._start("ask", self._ask, job, action, value)

    def close(self) -> None:
        """Breaks everything off. Jobs go on. Closing again does nothing."""
        self._closed.set()
        self.farm.abort()
        for _ in range(SAVERS):
            self._saves.put(lambda: None)

    # Each in a thread of its own.

    def _pulse(self) -> None:
        at, pauses = 0, Pauses()
        while not self._closed.is_set():
            try:
                view = self.farm.api.get("/farm")
                more = self._more() if at % MORE_EVERY == 0 else None
                met = told.Met(view["farm"], view["software"], view["agents_online"], more)
                self._say(met)
                at, pauses = at + 1, Pauses()
                self._closed.wait(PULSE_S)
            except self._grange.GrangeError as error:
                at = 0
                self._say(self._lost(error))
                self._closed.wait(pauses.next())

    def _more(self) -> told.More:
        me = self.farm.api.get("/me")
        there = self.farm.agents()
        agents = tuple(agent(view) for view in there if view["state"] != "offline")
        return told.More(me["name"], me["role"] != "viewer", versions(there), agents)

    def _submit(self, order: Order) -> None:
        with discarding(order):
            try:
                missing = [] if order.allow_missing else order.missing()
                if missing:
                    raise Missing(missing)
                job, warnings = self._send(order)
            except Exception as error:
                self._say(refusal(order, error))
                return
        self._say(told.Submitted(order.number, job.id, tuple(warnings)))
        self._say(news(job))

    def _send(self, order: Order) -> tuple[grange.Job, list[str]]:
        arguments = dict(order.arguments)
        if "shots" in arguments:
            arguments["shots"] = [self._grange.Shot(**shot) for shot in arguments["shots"]]
        warnings: list[str] = []
        said_at = 0.0

        def on_bytes(done: int, total: int) -> None:
            nonlocal said_at
            if time.monotonic() - said_at >= TELL_EVERY_S or done == total:
                said_at = time.monotonic()
                self._say(told.Sending(order.number, done, total))

        job = self.farm.submit(
            order.blend,
            content=order.copy,
            name=order.name,
            allow_missing=order.allow_missing,
            require_all=not order.allow_missing,
            on_bytes=on_bytes,
            on_warning=warnings.append,
            **arguments,
        )
        return job, warnings

    def _follow(self, following: _Following) -> None:
        job, pauses = following.job, Pauses()
        try:
            while not self._closed.is_set():
                try:
                    self._listen(following, pauses)
                    return
                except self._grange.Refused as error:
                    if error.status in {404, 410}:
                        self._say(told.Gone(job))
                        return
                    self._say(self._lost(error))
                    if error.status == 401:
                        return
                except self._grange.GrangeError as error:
                    self._say(self._lost(error))
                self._closed.wait(pauses.next())
        finally:
            with self._lock:
                self._followed.discard(job)

    def _listen(self, following: _Following, pauses: Pauses) -> None:
        """Until the job is over and its files are here."""
        job = self.farm.job(following.job)
        self._say(news(job))
        # One that somebody has retried since has new pictures.
        following.is_fetched = following.is_fetched and job.is_over
        for change in job.changes(following.cursor, poll_s=self._poll_s):
            pauses.rest()
            if change is None:
                self._say(news(job))
            elif isinstance(change, self._grange.Task):
                self._say(task_news(following.job, change))
            else:
                following.cursor = max(following.cursor, change.cursor)
                self._fetch(following, change)
        self._say(news(job))
        following.wait(self._closed)
        if not self._closed.is_set():
            self._say(told.Done(following.job, following.is_whole))

    def _fetch(self, following: _Following, output: grange.Output) -> None:
        path = os.path.join(following.folder, output.name)
        if not following.is_fetched:
            following.begin()
            self._saves.put(lambda: self._save(following, output))
        elif os.path.exists(path):
            self._say(told.Saved(following.job, path, output.frame, output.role == "frame"))

    def _save_all(self) -> None:
        while not self._closed.is_set():
            self._saves.get()()

    def _save(self, following: _Following, output: grange.Output) -> None:
        pauses = Pauses()
        whole = False
        try:
            while not self._closed.is_set():
                try:
                    path = output.save(following.folder)
                    whole = True
                    is_picture = output.role == "frame"
                    self._say(told.Saved(following.job, str(path), output.frame, is_picture))
                    return
                except self._grange.NotConnected:
                    self._closed.wait(pauses.next())
        except (self._grange.GrangeError, OSError) as error:
            self._say(told.NotSaved(following.job, _not_saved(output.name, error)))
        finally:
            following.end(whole)

    def _ask(self, job: int, action: str, value: Any) -> None:
        try:
            found = self.farm.job(job)
            if action == "priority":
                found.priority = value
            else:
                getattr(found, action)()
            self._say(news(found))
        except self._grange.GrangeError as error:
            self._say(told.NotDone(job, str(error)))

    def _start(self, what: str, function: Callable[..., None], *args: Any) -> None:
        threading.Thread(target=function, args=args, name=f"grange-{what}", daemon=True).start()

    def _say(self, news: told.News) -> None:
        """A link that is closed has nothing to say any more."""
        if not self._closed.is_set():
            self._tell(news)

    def _lost(self, error: Exception) -> told.Lost:
        status = getattr(error, "status", None)
        if status == 401:
            said = (
                "the farm does not take the connect string any more: it has expired or was revoked"
            )
            return told.Lost(said, is_refused=True)
        return told.Lost(str(error), is_refused=False)


class Pauses:
    """Longer and longer."""

    def __init__(self) -> None:
        self._at = 0

    def next(self) -> float:
        """Seconds."""
        self._at += 1
        return RETRY_S[min(self._at, len(RETRY_S)) - 1]

    def rest(self) -> None:
        """Something worked."""
        self._at = 0


class _Following:
    """A job that is followed, and the files of it that are on their way."""

    def __init__(self, job: int, folder: str, is_fetched: bool) -> None:
        self.job = job
        self.folder = folder
        self.is_fetched = is_fetched
        self.cursor = 0
        self.is_whole = True
        self._open = 0
        self._changed = threading.Condition()

    def begin(self) -> None:
        with self._changed:
            self._open += 1

    def end(self, whole: bool) -> None:
        with self._changed:
            self._open -= 1
            self.is_whole = self.is_whole and whole
            self._changed.notify_all()

    def wait(self, closed: threading.Event) -> None:
        """Until none is on its way, or nobody wants them any more."""
        with self._changed:
            while self._open and not closed.is_set():
                self._changed.wait(0.5)


def package() -> Any:
    """The client for farms. It is imported when it is needed: Blender starts sooner without."""
    from ..vendored import grange

    return grange


def agent(view: dict[str, Any]) -> told.Agent:
    devices = tuple(str(device["name"]) for device in view["devices"])
    return told.Agent(view["name"], devices, frozenset(view["tags"]))


def versions(agents: list[dict[str, Any]]) -> tuple[tuple[int, int], ...]:
    """Of the Blenders that render now or later."""
    found = {
        (int(runtime["version"]["major"]), int(runtime["version"]["minor"]))
        for agent in agents
        if agent["state"] in {"online", "asleep"}
        for runtime in agent["runtimes"]
    }
    return tuple(sorted(found))


def news(job: grange.Job) -> told.JobNews:
    """How a job is, as of its last refresh."""
    progress = job.progress
    return told.JobNews(
        job=job.id,
        name=job.name,
        state=job.state,
        submitter=job.submitter,
        priority=job.priority,
        reason=job.reason,
        done=progress.frames_done,
        total=progress.frames_total,
        fraction=progress.fraction,
        per_minute=progress.frames_per_minute,
        left_s=progress.seconds_left,
    )


def task_news(job: int, task: grange.Task) -> told.TaskNews:
    return told.TaskNews(
        job=job,
        key=(task.step, task.task),
        label=task.label,
        state=task.state,
        agent=task.agent or "",
        device=task.device,
        stage=task.stage or "",
        fraction=task.fraction,
        sample=task.sample,
        samples=task.samples,
    )


def _not_saved(name: str, error: Exception) -> str:
    if isinstance(error, OSError):
        why = (error.strerror or str(error)).lower()
        return f"{error.filename or name} cannot be written: {why}; make room or choose Fetch Again"
    return str(error)
