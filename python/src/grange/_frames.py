"""The frames of one render call: handed out one at a time, told of, and put in order again.

Owns the queue that instances take frames from, the two calls that each of them has under way, and
the files that come of them. Frames are never split beforehand: whoever is free takes the next.
Nothing here polls.
"""

from __future__ import annotations

import inspect
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from . import pictures
from ._folder import below
from ._http import output_path
from ._session import Session
from .errors import GrangeError, InstanceLost

Update = Callable[..., Any]
"""Called with `total=` frames, then with `advance=` frames, and with `partial=`: how much of the
frames under way is done, in frames (0.4 is 40 % of one), if it takes that."""
Ask = Callable[[str, dict[str, Any]], Any]
"""Calls an operation."""

FETCHES = 3
"""Files of one instance that are fetched at once."""


def number_of(frame: int) -> str:
    """A frame as names of files have it: six digits, a minus before them if need be."""
    return f"{'-' if frame < 0 else ''}{abs(frame):06d}"


def expected_files(ask: Ask, frames: Sequence[int]) -> dict[int, dict[str, str]]:
    """What files each frame comes with under the present settings: paths below the root folder, by
    the keys of `transforms`. One call, however many frames there are.
    """
    if not frames:
        return {}
    sample = number_of(frames[0])
    told: dict[str, str] = ask("frame_files", {"number": sample})
    parts = {key: path.rpartition(sample) for key, path in told.items()}
    return {
        frame: {key: head + number_of(frame) + tail for key, (head, _, tail) in parts.items()}
        for frame in frames
    }


def finished(root: Path, files: Mapping[int, Mapping[str, str]]) -> set[int]:
    """Frames whose files are all there and whole. Decodes them, several at a time."""

    def done(frame: int) -> bool:
        paths = files[frame].values()
        return bool(paths) and all(pictures.is_whole(root / path) for path in paths)

    # A file that is not there needs no thread.
    there = [
        frame for frame, paths in files.items() if all((root / p).is_file() for p in paths.values())
    ]
    if not there:
        return set()
    with ThreadPoolExecutor(os.cpu_count()) as several:
        return {
            frame for frame, whole in zip(there, several.map(done, there), strict=True) if whole
        }


class Plan:
    """What one render call comes to: which frames are there, and what is told of all of them."""

    def __init__(self, ask: Ask, root: Path, frames: Iterable[int], allow_skips: bool) -> None:
        self._ask = ask
        self.frames = list(dict.fromkeys(frames))
        """Each once, in the order that was asked for."""
        self._files = expected_files(ask, self.frames)
        self._there = finished(root, self._files) if allow_skips else set[int]()
        self._camera: dict[str, Any] = dict(ask("camera_info", {}))
        # The frame that the scene is at says nothing of these.
        self._camera.pop("frame", None)
        self.todo = [frame for frame in self.frames if frame not in self._there]

    def begin(self, teller: Teller) -> None:
        """Tells how much there is, and what of it is there already."""
        teller.total(len(self.frames))
        if self._there:
            teller.advance(len(self._there), 0.0)

    def transforms(self, told: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
        """The camera, and every frame in order. Those that were not rendered now get their matrix
        from one call.
        """
        untold = [frame for frame in self.frames if frame not in told]
        poses: list[Any] = self._ask("poses", {"frames": untold}) if untold else []
        data = dict(told) | {
            frame: {"transform_matrix": pose} for frame, pose in zip(untold, poses, strict=True)
        }
        frames = [{**self._files[frame], **data[frame]} for frame in self.frames]
        return {**self._camera, "frames": frames}


class Teller:
    """Tells an `update` of the caller's what it takes, one call at a time."""

    def __init__(self, update: Update | None) -> None:
        self._update = update
        self._lock = threading.Lock()
        self._partial = update is not None and takes(update, "partial")

    def total(self, frames: int) -> None:
        """How many frames there are."""
        self._tell(total=frames)

    def advance(self, frames: int, partial: float) -> None:
        """Frames are done; `partial` is what the others under way amount to."""
        self._tell(advance=frames, **({"partial": partial} if self._partial else {}))

    def partial(self, partial: float) -> None:
        """The frames under way went on."""
        if self._partial:
            self._tell(partial=partial)

    def _tell(self, **what: Any) -> None:
        if self._update:
            with self._lock:
                self._update(**what)


def takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a function takes an argument by that name."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    return name in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


class Work:
    """The frames of one call that are still to be rendered. All methods are for any thread."""

    def __init__(
        self, frames: Iterable[int], teller: Teller, *, shared: bool = False, losses_max: int = 0
    ) -> None:
        """`shared` by several instances, or for one, which has two frames under way always. A frame
        may be lost with its instance `losses_max` times before that is an error.
        """
        self._shared = shared
        self._waiting = deque(frames)
        self._left = set(self._waiting)
        self._teller = teller
        self._losses_max = losses_max
        self._losses: dict[int, int] = {}
        self._partial: dict[int, float] = {}
        self._paces: dict[Renderer, float] = {}
        self._data: dict[int, dict[str, Any]] = {}
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def take(self, renderer: Renderer, *, ahead: bool = False) -> int | None:
        """The next frame, or none if all are done or the instance is gone. Waits while those under
        way might come back. With `ahead` it is one to wait at an instance that renders already.
        """

        def stop() -> bool:
            return self._over or renderer.session.lost

        with self._changed:
            self._changed.wait_for(lambda: stop() or self._may_take(renderer, ahead))
            return None if stop() else self._waiting.popleft()

    def give_back(self, frame: int, lost: InstanceLost) -> None:
        """The frame's instance is gone: it is the next one to be handed out."""
        with self._changed:
            self._partial.pop(frame, None)
            losses = self._losses[frame] = self._losses.get(frame, 0) + 1
            if frame not in self._left:
                return
            if losses <= self._losses_max:
                self._waiting.appendleft(frame)
                self._changed.notify_all()
                return
        if losses > 1:
            text = f"frame {frame} lost its instance {losses} times in a row, at last so: {lost}"
            lost = InstanceLost(text)
        self.fail(lost)

    def leave(self, renderer: Renderer) -> None:
        """The instance takes no more frames."""
        with self._changed:
            self._paces.pop(renderer, None)
            self._changed.notify_all()

    def progress(self, frame: int, fraction: float) -> None:
        """How much of a frame is done, 0..1."""
        with self._changed:
            if self._error or frame not in self._left:
                return
            self._partial[frame] = fraction
            partial = sum(self._partial.values())
        self._teller.partial(partial)

    def pace(self, renderer: Renderer, seconds: float) -> None:
        """How long the instance's last frame took."""
        with self._changed:
            self._paces[renderer] = seconds
            self._changed.notify_all()

    def finish(self, frame: int, data: dict[str, Any]) -> None:
        """A frame is done, and all its files are here."""
        with self._changed:
            if self._error or frame not in self._left:
                return
            self._partial.pop(frame, None)
            partial = sum(self._partial.values())
        # The last frame is told of before anybody learns that all are done.
        self._teller.advance(1, partial)
        with self._changed:
            self._left.discard(frame)
            self._data[frame] = data
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Nothing more is handed out, and `wait` raises this."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def wait(self) -> dict[int, dict[str, Any]]:
        """Blocks until all frames are done, and gives what was told of each. Raises the first error
        at once.
        """
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._over)
        except BaseException as error:
            self.fail(error)
            raise
        if self._error:
            raise self._error
        return self._data

    @property
    def _over(self) -> bool:
        return self._error is not None or not self._left

    def _may_take(self, renderer: Renderer, ahead: bool) -> bool:
        if not (self._waiting and ahead and self._shared):
            return bool(self._waiting)
        # A frame that waits at a slow instance holds up the end of all. It may where the others
        # are busy anyway until its turn has come and gone.
        pace = self._paces.get(renderer)
        if pace is None:
            return False
        together = sum(1 / max(one, 1e-3) for one in self._paces.values())
        return len(self._waiting) / together >= 2 * pace


class Renderer:
    """One instance's side of rendering: its calls, and the files that come of them."""

    def __init__(self, session: Session, root: Path, logger: logging.Logger) -> None:
        self.session = session
        self.root = root
        self.logger = logger
        self._fetches = ThreadPoolExecutor(FETCHES, "grange-fetch")

    def close(self) -> None:
        """Fetches nothing more, unless the instance is lost: what it has finished is still good."""
        self._fetches.shutdown(wait=False, cancel_futures=not self.session.lost)

    def serve(self, work: Work, rendered: Callable[[], None] = lambda: None) -> None:
        """Renders frame after frame, until there are none left, and says so of each. Raises
        `InstanceLost` when its instance is gone; every other error is the work's.
        """
        lost: list[InstanceLost] = []

        def lane(ahead: bool) -> None:
            gone = self._lane(work, ahead, rendered)
            if gone:
                lost.append(gone)

        second = threading.Thread(target=lane, args=(True,), name="grange-ahead", daemon=True)
        second.start()
        lane(False)
        work.leave(self)
        second.join()
        if lost:
            raise lost[0]

    def _lane(self, work: Work, ahead: bool, rendered: Callable[[], None]) -> InstanceLost | None:
        while (frame := work.take(self, ahead=ahead)) is not None:
            try:
                self._render(frame, work)
                rendered()
            except InstanceLost as lost:
                work.give_back(frame, lost)
                return lost
            except BaseException as error:
                work.fail(error)
        return None

    def _render(self, frame: int, work: Work) -> None:
        arrival = Arrival(work, frame)
        number = number_of(frame)

        def output(name: str, length: int) -> None:
            arrival.expect(self._fetches.submit(fetch, self.session, name, length, self.root))

        value: dict[str, Any] = self.session.call(
            "render",
            {"frame": frame, "name": f"frames/frame_{number}", "number": number},
            progress=lambda fraction: work.progress(frame, fraction),
            output=output,
        )
        for warning in value["warnings"]:
            self.logger.warning("frame %d: %s", frame, warning)
        work.pace(self, value["seconds"])
        arrival.complete(value["data"])


class Arrival:
    """A frame whose files are under way: it is finished when the last one is here."""

    def __init__(self, work: Work, frame: int) -> None:
        self._work = work
        self._frame = frame
        self._left = 1
        self._data: dict[str, Any] = {}
        self._lock = threading.Lock()

    def expect(self, file: Future[None]) -> None:
        """One more file."""
        with self._lock:
            self._left += 1
        file.add_done_callback(self._arrived)

    def complete(self, data: dict[str, Any]) -> None:
        """All files are known now, and this is to tell of the frame."""
        self._data = data
        self._settle()

    def _arrived(self, file: Future[None]) -> None:
        closed = InstanceLost("the client was closed")
        error = closed if file.cancelled() else file.exception()
        if error:
            self._work.fail(error)
        else:
            self._settle()

    def _settle(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left:
                return
        try:
            self._work.finish(self._frame, self._data)
        except BaseException as error:
            self._work.fail(error)


def fetch(session: Session, name: str, length: int, root: Path) -> None:
    """Brings an output of a call's here, below root, without the number of the call."""
    fetch_to(session, name, length, below(root, name.partition("/")[2]))


def fetch_to(session: Session, name: str, length: int, to: Path) -> None:
    """Brings an output here: whole, or not at all. Raises `GrangeError` if it has no bytes, and
    `OSError` if it cannot be written.
    """
    if length <= 0:
        raise GrangeError(f"output {name} of session {session.id} is empty: is a disk full there?")
    to.parent.mkdir(parents=True, exist_ok=True)
    session.farm.api.download(output_path(session.id, name), to, length)
