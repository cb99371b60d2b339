# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of a farm and of the jobs that are followed there: the main thread's own copy,
which takes in what the threads tell, as much at a time as there is time for.
"""

from __future__ import annotations

import queue
import time
from dataclasses import dataclass, field, replace

from . import told

SILENT_S = 35.0
"""A farm that has said nothing for so long is not shown as live."""


@dataclass
class Followed:
    """A job, as of now."""

    job: int
    name: str
    folder: str
    owner: str
    news: told.JobNews | None = None
    running: dict[tuple[int, int], told.TaskNews] = field(default_factory=dict)
    """Tasks that an agent has now."""
    pictures: dict[str, int] = field(default_factory=dict)
    """Paths of what is here, and their frames."""
    last: str | None = None
    """The picture that came last."""
    problem: str | None = None
    is_done: bool = False
    """Whether nothing more is told of it."""
    is_whole: bool = False
    """Whether all of its files are here."""

    @property
    def is_over(self) -> bool:
        return self.news is not None and self.news.is_over

    @property
    def hosts(self) -> list[str]:
        """Agents at work."""
        return sorted({task.agent for task in self.running.values() if task.agent})


class Desk:
    """`put` is for any thread, all else for the main thread."""

    def __init__(self) -> None:
        self._inbox: queue.SimpleQueue[told.News] = queue.SimpleQueue()
        self.met: told.Met | None = None
        self.lost: told.Lost | None = None
        self.sending: dict[int, told.Sending | None] = {}
        """Orders on their way; None before there is anything to tell."""
        self.refused: told.NotSubmitted | None = None
        """Of the latest order."""
        self.warnings: tuple[str, ...] = ()
        """Of the latest order."""
        self.submitted: dict[int, int] = {}
        """Orders and the jobs that they have become, which nobody has taken up yet."""
        self.jobs: dict[int, Followed] = {}
        self._heard_at = 0.0

    def put(self, news: told.News) -> None:
        self._inbox.put(news)

    def drain(self, budget_s: float) -> int:
        """Takes in what was told, until the time is over; how much that was."""
        until = time.perf_counter() + budget_s
        count = 0
        while time.perf_counter() < until:
            try:
                news = self._inbox.get_nowait()
            except queue.Empty:
                break
            self.take(news)
            count += 1
        return count

    def is_live(self) -> bool:
        """Whether the farm answers."""
        return self.lost is None and time.monotonic() - self._heard_at < SILENT_S

    def agents(self) -> tuple[told.Agent, ...]:
        """Those that are there, as of a while ago."""
        return self.met.more.agents if self.met and self.met.more else ()

    def follow(self, job: int, name: str, folder: str, owner: str) -> Followed:
        return self.jobs.setdefault(job, Followed(job, name, folder, owner))

    def of(self, owner: str) -> list[Followed]:
        """The jobs of a file, the latest first."""
        found = [job for job in self.jobs.values() if job.owner == owner]
        return sorted(found, key=lambda job: -job.job)

    def take(self, news: told.News) -> None:
        if not isinstance(news, told.Lost):
            self._heard_at = time.monotonic()
        match news:
            case told.Met():
                self._met(news)
            case told.Lost():
                self.lost = news
            case told.Sending() if news.order in self.sending:
                self.sending[news.order] = news
            case told.Submitted():
                self.sending.pop(news.order, None)
                self.refused, self.warnings = None, news.warnings
                self.submitted[news.order] = news.job
            case told.NotSubmitted():
                self.sending.pop(news.order, None)
                self.refused = news
            case told.Gone():
                self.jobs.pop(news.job, None)
            case _:
                self._of_job(news)

    def _of_job(self, news: told.News) -> None:
        """What is told of a job that nobody follows any more is no news."""
        job = self.jobs.get(getattr(news, "job", -1))
        if job is None:
            return
        match news:
            case told.JobNews():
                job.news, job.name = news, news.name
                if news.is_over:
                    job.running.clear()
                else:
                    # Somebody lets it go on.
                    job.is_done = job.is_whole = False
            case told.TaskNews() if news.state == "running" and not job.is_over:
                job.running[news.key] = news
            case told.TaskNews():
                job.running.pop(news.key, None)
            case told.Saved() if news.is_picture:
                job.pictures[news.path] = news.frame
                job.last = news.path
            case told.NotSaved() | told.NotDone():
                job.problem = news.said
            case told.Done():
                job.is_done, job.is_whole = True, news.is_whole

    def _met(self, news: told.Met) -> None:
        known = self.met.more if self.met else None
        self.met = replace(news, more=news.more or known)
        self.lost = None
