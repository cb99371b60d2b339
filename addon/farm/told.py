# SPDX-License-Identifier: GPL-3.0-or-later
"""What the threads that talk to a farm tell the main thread: small values that never change."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Agent:
    """A host of the farm that is there."""

    name: str
    devices: tuple[str, ...]
    """What they are called, in its order."""
    tags: frozenset[str]


@dataclass(frozen=True)
class More:
    """What changes seldom."""

    who: str
    """Whose connect string it is."""
    may_submit: bool
    versions: tuple[tuple[int, int], ...]
    """Of the Blenders on the farm's hosts, in ascending order."""
    agents: tuple[Agent, ...]
    """Those that are not offline."""


@dataclass(frozen=True)
class Met:
    """The farm has answered."""

    farm: str
    software: str
    """Version of its coordinator."""
    hosts: int
    """Agents that are online."""
    more: More | None
    """What is asked less often; None if it was not."""


@dataclass(frozen=True)
class Lost:
    """The farm cannot be reached, or does not want this client any more."""

    said: str
    is_refused: bool
    """Whether signing in anew is what helps."""


@dataclass(frozen=True)
class Sending:
    """A scene is on its way to the farm."""

    order: int
    done: int
    """Bytes."""
    total: int
    """Bytes, as far as they are known by then."""


@dataclass(frozen=True)
class Submitted:
    """The farm has it."""

    order: int
    job: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class NotSubmitted:
    """Nothing of it is on the farm."""

    order: int
    said: str
    missing: tuple[str, ...] = ()
    """A sentence for each file that the scene names and that is not there."""


@dataclass(frozen=True)
class JobNews:
    """How a job is."""

    job: int
    name: str
    state: str
    submitter: str
    priority: int
    reason: str | None
    done: int
    """Frames."""
    total: int
    """Frames."""
    fraction: float
    """0 to 1, with the parts of frames that are being rendered."""
    per_minute: float
    left_s: float | None

    @property
    def is_over(self) -> bool:
        return self.state in {"completed", "canceled", "failed"}


@dataclass(frozen=True)
class TaskNews:
    """How a part of a job is."""

    job: int
    key: tuple[int, int]
    label: str
    state: str
    agent: str
    device: int | None
    """Which of the agent's devices."""
    stage: str
    fraction: float
    sample: int
    samples: int


@dataclass(frozen=True)
class Saved:
    """A file of a job is here, whole."""

    job: int
    path: str
    frame: int
    is_picture: bool


@dataclass(frozen=True)
class NotSaved:
    """A file of a job could not be written; the farm keeps it."""

    job: int
    said: str


@dataclass(frozen=True)
class Done:
    """Nothing more will be told of a job."""

    job: int
    is_whole: bool
    """Whether all of its files are here."""


@dataclass(frozen=True)
class Gone:
    """The farm knows no such job any more."""

    job: int


@dataclass(frozen=True)
class NotDone:
    """The farm did not do what a button asked for."""

    job: int
    said: str


News = (
    Met
    | Lost
    | Sending
    | Submitted
    | NotSubmitted
    | JobNews
    | TaskNews
    | Saved
    | NotSaved
    | Done
    | Gone
    | NotDone
)
