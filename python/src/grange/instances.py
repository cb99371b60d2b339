"""`Instances`: several instances of the farm, driven as one.

Calls go to all of them at once. One that gives something gives a list here, with a value for each
instance that did it; one that gives nothing gives nothing. Frames are handed out one at a time, to
whoever is free.

Work begins as soon as the first instance is ready. Those that get their place later, and those
that replace a lost one, are brought to the same state by doing all calls again that were made since
`initialize`, before they take part. Owns one thread per instance, which sleeps when there is
nothing to render.
"""

from __future__ import annotations

import logging
import pathlib
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from . import _extensions, _scene
from ._contract import Farm
from ._extensions import Extension
from ._frames import Plan, Renderer, Teller, Update, Work
from ._operations import Codec, Operations, Path
from ._scene import Scene
from .blender import Blender, animation, no_operation
from .errors import GrangeError, InstanceLost

REPLACEMENTS = 3
"""How often in a row an instance, or the instance of one frame, is replaced."""
T = TypeVar("T")
Call = Callable[[Blender], Any]


@dataclass(eq=False)
class Member:
    """One of the instances."""

    blender: Blender
    ready: bool = False
    """Whether it is in the state of the others, and gets their calls."""
    done: int = 0
    """Calls of the state that it has done."""
    failures: int = 0
    """Instances that it lost in a row without doing anything."""


class Instances(Operations):
    """Clients of n instances, driven as one. Get them from `farm.instances(n)`."""

    def __init__(
        self,
        farm: Farm,
        count: int,
        *,
        extensions: Iterable[Extension] = (),
        name: str | None = None,
        logger: logging.Logger | None = None,
        **options: Any,
    ) -> None:
        """`count` instances at most; `options` and all others are those of `Blender`.

        Raises `ValueError` for a count below 1.
        """
        if count < 1:
            raise ValueError(f"{count} instances can do nothing: ask for 1 or more")
        self._farm = farm
        self._count = count
        self._extensions = list(extensions)
        _extensions.read(self._extensions)
        self._name = name
        self._logger = logger or logging.getLogger("grange")
        self._options = options
        self._scene: Scene | None = None
        self._root: pathlib.Path | None = None
        self._members: list[Member] = []
        self._state: list[Call] = []
        self._work: Work | None = None
        self._error: Exception | None = None
        self._closed = False
        self._changed = threading.Condition()
        # Who holds this may change the state; so nobody joins in the middle of a call.
        self._calling = threading.Lock()

    # The sessions

    def initialize(
        self, blend_file: Path, root_path: Path | None = None, *, allow_missing: bool = False
    ) -> None:
        """Opens a scene on every instance, and blocks until the first one is ready; see
        `Blender.initialize`. Another scene, or the same one again, begins with new sessions.
        """
        scene = _scene.upload(self._farm.api, pathlib.Path(blend_file), allow_missing=allow_missing)
        for warning in scene.warnings:
            self._logger.warning("%s", warning)
        self._end_members()
        with self._changed:
            self._scene, self._error = scene, None
            self._root = None if root_path is None else pathlib.Path(root_path)
            self._state = []
            self._closed = False
            self._members = [Member(self._client()) for _ in range(self._count)]
            members = list(self._members)
        for number, member in enumerate(members, 1):
            thread = threading.Thread(
                target=self._drive, args=(member,), name=f"grange-instance-{number}", daemon=True
            )
            thread.start()
        self._ready()

    def reset(self) -> None:
        """Opens the scene as it was saved on every instance."""

        def forget() -> None:
            self._state = []

        self._broadcast(Blender.reset, forget)

    def close(self) -> None:
        """Ends all sessions. The end of a `with` block."""
        self._end_members()

    def __enter__(self) -> Instances:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Instances: {self.ready_count()} of {self._count} ready>"

    def ready_count(self) -> int:
        """How many have an instance and take part. Asks nobody."""
        with self._changed:
            return sum(member.ready for member in self._members)

    def with_logger(self, logger: logging.Logger) -> None:
        """Sends messages and warnings of all instances to this logger from now on."""
        with self._changed:
            self._logger = logger
            for member in self._members:
                member.blender.with_logger(logger)

    def save_file(self, path: Path) -> None:
        """Saves the scene as it is now to a file here; one of the instances does it."""
        self._first(lambda blender: blender.save_file(path))

    # The scene

    def original_fps(self) -> list[float]:
        """Frames per second of the animation as it was saved, for each."""
        return self._broadcast(Blender.original_fps)

    def animation_range(self) -> list[range]:
        """The animation's frames, for each."""
        return self._broadcast(Blender.animation_range)

    def animation_range_tuple(self) -> list[tuple[int, int, int]]:
        """The animation's first frame, last frame, and step, for each."""
        return self._broadcast(Blender.animation_range_tuple)

    def iter_fcurves(self) -> list[list[dict[str, Any]]]:
        """All curves of the scene's animations, for each."""
        return self._broadcast(Blender.iter_fcurves)

    def current_frame(self) -> list[int]:
        """The frame that the scene is at, for each."""
        return self._broadcast(Blender.current_frame)

    def cycles_settings(
        self,
        device: str | None = None,
        samples: int | None = None,
        threshold: float | None = None,
        denoise: bool | None = None,
        bounces: int | None = None,
        persistent_data: bool | None = None,
        seed: int | None = None,
    ) -> list[list[Any]]:
        """`Blender.cycles_settings` on each: the devices that are really on, for each."""

        def settings(blender: Blender) -> list[Any]:
            return blender.cycles_settings(
                device, samples, threshold, denoise, bounces, persistent_data, seed
            )

        return self._change(settings)

    def camera_extrinsics(self) -> list[list[list[float]]]:
        """The camera's pose at the present frame, for each: 4×4, camera to world."""
        return self._broadcast(Blender.camera_extrinsics)

    def camera_intrinsics(self) -> list[list[list[float]]]:
        """The 3×3 matrix that projects to pixels, for each."""
        return self._broadcast(Blender.camera_intrinsics)

    def camera_info(self) -> list[dict[str, Any]]:
        """What a `transforms.json` begins with, for each."""
        return self._broadcast(Blender.camera_info)

    def include_segmentations(
        self,
        debug: bool = False,
        codec: Codec = "ZIP",
        ids: dict[str, int] | None = None,
    ) -> list[dict[int, str]]:
        """`Blender.include_segmentations` on each: the same names by the same numbers."""
        return self._change(lambda blender: blender.include_segmentations(debug, codec, ids))

    def include_materials(self, debug: bool = False, codec: Codec = "ZIP") -> list[dict[int, str]]:
        """`Blender.include_materials` on each."""
        return self._change(lambda blender: blender.include_materials(debug, codec))

    # Rendering

    def render_current_frame(
        self, *, allow_skips: bool = True, dry_run: bool = False, update: Update | None = None
    ) -> dict[str, Any]:
        """Renders the frame that the first instance is at; otherwise as `render_frames`."""
        frame = self._first(Blender.current_frame)
        return self._render([frame], allow_skips, dry_run, update)

    def render_frame(
        self,
        frame: int,
        *,
        allow_skips: bool = True,
        dry_run: bool = False,
        update: Update | None = None,
    ) -> dict[str, Any]:
        """Renders one frame on one of the instances; otherwise as `render_frames`."""
        return self._render([frame], allow_skips, dry_run, update)

    def render_frames(
        self,
        frames: Iterable[int],
        *,
        allow_skips: bool = True,
        dry_run: bool = False,
        update: Update | None = None,
    ) -> dict[str, Any]:
        """Renders frames, each on the instance that is free for it first, and returns one
        `transforms` for all of them, in the order that was asked for: `Blender.render_frames`.

        A frame whose instance is lost is rendered by another one, three times at most. Raises
        `InstanceLost` after that, or when no instance is left.
        """
        return self._render(frames, allow_skips, dry_run, update)

    def render_animation(
        self,
        start: int | None = None,
        end: int | None = None,
        step: int | None = None,
        *,
        allow_skips: bool = True,
        dry_run: bool = False,
        update: Update | None = None,
    ) -> dict[str, Any]:
        """Renders the animation; otherwise as `render_frames`. `start`, `end` (the last frame) and
        `step` are those of the scene where they are left out.
        """
        own = self._first(Blender.animation_range_tuple)
        return self._render(animation(own, start, end, step), allow_skips, dry_run, update)

    # Operations of people's own

    def call(self, operation: str, /, *args: Any, **named: Any) -> list[Any]:
        """Does an operation by its name on each; later ones do it as well when they join."""
        return self._change(lambda blender: blender.call(operation, *args, **named))

    def __getattr__(self, name: str) -> Callable[..., list[Any]]:
        members: list[Member] = self.__dict__.get("_members", [])
        ready = next((member.blender for member in members if member.ready), None)
        if ready is None or name.startswith("_") or not hasattr(ready, name):
            expecting = bool(self.__dict__.get("_extensions")) and ready is None
            raise AttributeError(no_operation(name, (), expecting))

        def broadcast(*args: Any, **named: Any) -> list[Any]:
            return self.call(name, *args, **named)

        return broadcast

    # Calls

    def _do(self, operation: str, args: dict[str, Any]) -> None:
        self._change(lambda blender: blender.ask(operation, args))

    def _change(self, call: Callable[[Blender], T]) -> list[T]:
        """A call that changes the state: whoever joins later does it as well."""
        return self._broadcast(call, lambda: self._state.append(call))

    def _broadcast(
        self, call: Callable[[Blender], T], noted: Callable[[], None] = lambda: None
    ) -> list[T]:
        """The values of all that are ready, of one at least. Raises the first error; otherwise it
        is noted before anybody else joins.
        """
        while True:
            self._ready()
            # Nobody is waited for with this held: those that join need it.
            with self._calling:
                values = self._ask_all(call)
                if values:
                    with self._changed:
                        noted()
                        for member in self._members:
                            if member.ready:
                                member.done, member.failures = len(self._state), 0
                    return values

    def _ask_all(self, call: Callable[[Blender], T]) -> list[T]:
        """The values of those that are ready just now and stay so."""
        with self._changed:
            members = [member for member in self._members if member.ready]
        with ThreadPoolExecutor(max(len(members), 1), "grange-call") as several:
            futures = [several.submit(call, member.blender) for member in members]
        values: list[T] = []
        for member, future in zip(members, futures, strict=True):
            error = future.exception()
            if isinstance(error, InstanceLost):
                self._lost(member)
            elif error:
                raise error
            else:
                values.append(future.result())
        return values

    def _first(self, call: Callable[[Blender], T]) -> T:
        """The value of one that is ready."""
        while True:
            member = self._ready()[0]
            try:
                return call(member.blender)
            except InstanceLost:
                self._lost(member)

    def _ready(self) -> list[Member]:
        """Those that are ready; waits for the first. Raises why there will be none."""

        def settled() -> bool:
            return self._closed or not self._members or any(one.ready for one in self._members)

        with self._changed:
            if self._scene is None:
                raise GrangeError(
                    "no scene is open: call `initialize(blend_file, root_path)` first"
                )
            self._changed.wait_for(settled)
            if self._closed:
                raise InstanceLost("these instances were closed: ask the farm for others")
            if not self._members:
                raise self._error or InstanceLost("no instance is left")
            return [member for member in self._members if member.ready]

    def _lost(self, member: Member) -> None:
        with self._changed:
            member.ready = False
            self._changed.notify_all()

    # Rendering

    def _render(
        self, frames: Iterable[int], allow_skips: bool, dry_run: bool, update: Update | None
    ) -> dict[str, Any]:
        def ask(operation: str, args: dict[str, Any]) -> Any:
            return self._first(lambda blender: blender.ask(operation, args))

        self._first(Blender.renderer)
        assert self._root is not None
        plan = Plan(ask, self._root, frames, allow_skips)
        teller = Teller(update)
        plan.begin(teller)
        if dry_run:
            teller.advance(len(plan.todo), 0.0)
            return plan.transforms({})
        work = Work(plan.todo, teller, shared=self._count > 1, losses_max=REPLACEMENTS)
        with self._changed:
            self._work = work
            self._changed.notify_all()
        try:
            self._none_left(work)
            told = work.wait()
        finally:
            with self._changed:
                self._work = None
        return plan.transforms(told)

    def _none_left(self, work: Work) -> None:
        """Fails the work if all instances have been given up."""
        with self._changed:
            if not self._members:
                work.fail(self._error or InstanceLost("no instance is left"))

    # The thread of each instance

    def _drive(self, member: Member) -> None:
        while True:
            try:
                self._join(member)
                self._serve(member)
                return
            except InstanceLost as lost:
                member.failures += 1
                self._lost(member)
                member.blender.close()
                if not self._replace(member, lost):
                    return
            except Exception as error:
                self._give_up(member, error)
                return

    def _join(self, member: Member) -> None:
        """Opens the scene and does what the others have done."""
        scene = self._scene
        assert scene is not None
        member.blender.begin(scene, self._root)
        state = self._state
        while True:
            late = False
            with self._changed:
                if state is not self._state:
                    # A reset came in between: what was done again so far is to be forgotten.
                    state, member.done, late = self._state, 0, True
                calls = state[member.done :]
            if late:
                member.blender.reset()
            for call in calls:
                call(member.blender)
                member.done += 1
            # Whoever calls holds this from looking who is ready to noting the call.
            with self._calling, self._changed:
                if state is self._state and member.done >= len(state):
                    member.ready = True
                    self._changed.notify_all()
                    return

    def _serve(self, member: Member) -> None:
        """Takes part in one work after the other, until all is closed."""
        last: Work | None = None

        def awake() -> bool:
            gone = self._closed or member not in self._members or not member.ready
            return gone or (self._work is not None and self._work is not last)

        while True:
            with self._changed:
                self._changed.wait_for(awake)
                if self._closed or member not in self._members:
                    return
                if not member.ready:
                    raise InstanceLost("the instance was lost in a call")
                last = self._work
            assert last is not None
            renderer: Renderer = member.blender.renderer()
            renderer.serve(last, lambda: setattr(member, "failures", 0))

    def _replace(self, member: Member, lost: InstanceLost) -> bool:
        """Asks for another instance in the place of a lost one; false if that is over."""
        if member.failures > REPLACEMENTS:
            text = f"{member.failures} instances were lost in a row, at last so: {lost}"
            self._give_up(member, InstanceLost(text))
            return False
        with self._changed:
            if self._closed or member not in self._members:
                return False
            member.blender = self._client()
            member.done = 0
        self._logger.warning("an instance was lost (%s); another one is asked for", lost)
        return True

    def _give_up(self, member: Member, error: Exception) -> None:
        """Goes on without it."""
        member.blender.close()
        with self._changed:
            if self._closed or member not in self._members:
                return
            self._members.remove(member)
            self._error = self._error or error
            last, work = not self._members, self._work
            self._changed.notify_all()
        if last and work:
            work.fail(error)
        if not last:
            self._logger.warning("going on with an instance less: %s", error)

    def _client(self) -> Blender:
        return Blender(
            self._farm,
            extensions=self._extensions,
            name=self._name,
            logger=self._logger,
            **self._options,
        )

    def _end_members(self) -> None:
        with self._changed:
            self._closed = True
            members = self._members
            self._members = []
            work = self._work
            for member in members:
                member.ready = False
            self._changed.notify_all()
        if work:
            work.fail(InstanceLost("these instances were closed"))
        if members:
            with ThreadPoolExecutor(len(members), "grange-close") as several:
                for member in members:
                    several.submit(member.blender.close)
