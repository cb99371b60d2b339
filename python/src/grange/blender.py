"""`Blender`: one instance of the farm, held like a local one.

Every method that asks the instance something is a method with parentheses, and blocks until the
answer is here. Values come back as plain data: numbers, texts, lists and dictionaries, matrices as
lists of rows; numpy arrays only where an extension of yours returns them and numpy is installed
here. The state of the scene lives in the instance: it is gone with it (`InstanceLost`), and with
the `with` block.
"""

from __future__ import annotations

import difflib
import logging
import pathlib
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any

from . import _extensions, _logs, _request, _scene
from ._contract import Farm
from ._extensions import Extension
from ._frames import Plan, Renderer, Teller, Update, Work, fetch_to
from ._operations import Codec, Operations, Path, Vector, given
from ._scene import Scene
from ._session import Session
from ._shelf import Shelf
from .errors import GrangeError, InstanceLost

__all__ = ["Blender", "Codec", "Extension", "Path", "Update", "Vector"]

LOGGER = logging.getLogger("grange")


class Blender(Operations):
    """A client of one instance.

    Get one from `farm.instance()`, and name a scene with `initialize`; nothing of the farm is used
    before that. One thread at a time: several may call, and their calls are done in turn.
    """

    def __init__(
        self,
        farm: Farm,
        *,
        extensions: Iterable[Extension] = (),
        name: str | None = None,
        priority: int | None = None,
        idle_s: int | None = None,
        settings: dict[str, Any] | None = None,
        tags: Iterable[str] = (),
        log_dir: Path | None = None,
        logger: logging.Logger = LOGGER,
        shelf: Shelf | None = None,
    ) -> None:
        """`extensions` are Python files, modules and functions that become methods of this client;
        a function there whose first parameter is called `session` gets the session.
        `name` is what the farm lists the session as (otherwise the file's name), `priority` is as
        for jobs, `idle_s` seconds without a call end the session, `settings` are those of renders
        that the farm itself knows, and only a host that has all `tags` is asked. `log_dir` gets
        what Blender printed, when the session ends.

        Raises `ValueError`, `TypeError` or `FileNotFoundError` for extensions that cannot be sent.
        """
        self._extended: dict[str, Callable[..., Any]] = {}
        self._sources = _extensions.read(extensions)
        self._farm = farm
        self._name = name
        self._wishes = {
            "priority": priority,
            "idle_s": idle_s,
            "settings": settings,
            "tags": _request.tags(tags) or None,
        }
        self._log_dir = None if log_dir is None else pathlib.Path(log_dir)
        self._logger = logger
        self._shelf = shelf
        self._session: Session | None = None
        self._renderer: Renderer | None = None
        self._root: pathlib.Path | None = None
        self._closed = False
        self._lock = threading.Lock()

    # The session

    def initialize(
        self, blend_file: Path, root_path: Path | None = None, *, allow_missing: bool = False
    ) -> None:
        """Opens a scene on an instance, and blocks until it is open there.

        Sends the file and all files that it names, as far as the farm lacks them; `allow_missing`
        makes do without those that are not there. `root_path` is the folder that renders go to.
        The same scene again is opened afresh on the same instance; another one ends the session
        and makes another.

        Raises `MissingFiles`, `FileNotFoundError`, and `InstanceLost` if the session is ended
        before it has an instance.
        """
        scene = _scene.upload(self._farm.api, pathlib.Path(blend_file), allow_missing=allow_missing)
        for warning in scene.warnings:
            self._logger.warning("%s", warning)
        self.begin(scene, root_path)

    def begin(self, scene: Scene, root_path: Path | None = None) -> None:
        """`initialize` with a scene that was sent already."""
        self._root = None if root_path is None else pathlib.Path(root_path)
        wanted = (scene.manifest, scene.blend)
        if self._session and (self._session.lost or self._session.scene != wanted):
            self._release(keep=not self._session.lost)
        if not self._session and self._shelf:
            self._adopt(self._shelf.take(wanted))
        while True:
            session = self._session
            if session and session.ready:
                if self._reopened():
                    return
                continue
            if not session:
                session = self._ask_for(scene)
            try:
                if self._wait_for(session):
                    self._extend()
                    return
            except BaseException:
                # Nobody would end what nobody got.
                self._release(keep=False)
                raise

    def reset(self) -> None:
        """Opens the scene as it was saved: everything that was set is gone, ground truths too.
        Extensions stay.
        """
        self.ask("reset", {})
        self._extend()

    def close(self) -> None:
        """Ends the session; calls under way raise `InstanceLost`. The end of a `with` block."""
        with self._lock:
            self._closed = True
        self._release(keep=False)

    def release(self) -> None:
        """Is closed, but its session stays for the next client of the same pool."""
        with self._lock:
            self._closed = True
        self._release(keep=True)

    def __enter__(self) -> Blender:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        session = self._session
        if session is None:
            return "<Blender without a scene>"
        state = "over" if session.lost else "ready" if session.ready else "waiting"
        return f"<Blender session {session.id}, {state}>"

    @property
    def is_ready(self) -> bool:
        """Whether it has an instance. Asks nobody."""
        session = self._session
        return session is not None and session.ready and not session.lost

    def session_info(self) -> dict[str, Any]:
        """What the farm tells of the session: `id`, `name`, `state`, and where it runs: `agent`,
        `device`, `blender` (its version).
        """
        return self._farm.api.get(f"/api/v1/sessions/{self._held().id}")

    def with_logger(self, logger: logging.Logger) -> None:
        """Sends messages and warnings of the instance to this logger from now on; until then they
        go to the one called `grange`.
        """
        self._logger = logger
        if self._renderer:
            self._renderer.logger = logger

    def save_file(self, path: Path) -> None:
        """Saves the scene as it is now to a file here, whose name ends in `.blend`."""
        target = pathlib.Path(path)
        if target.suffix != ".blend":
            raise ValueError(f"`{target}` is no name of a scene: let it end in .blend")
        session = self._held()
        outputs: list[tuple[str, int]] = []
        session.call(
            "save_file",
            {"name": target.name},
            output=lambda name, length: outputs.append((name, length)),
        )
        for name, length in outputs:
            if name.endswith(".blend"):
                fetch_to(session, name, length, target)
                return
        raise GrangeError(f"the instance saved no `{target.name}`")

    # The scene

    def original_fps(self) -> float:
        """Frames per second of the animation as it was saved."""
        return self.ask("original_fps", {})

    def animation_range(self) -> range:
        """The animation's frames."""
        return range(*self.ask("animation_range", {}))

    def animation_range_tuple(self) -> tuple[int, int, int]:
        """The animation's first frame, last frame, and step."""
        frames = self.animation_range()
        return frames.start, frames.stop - 1, frames.step

    def iter_fcurves(self) -> list[dict[str, Any]]:
        """All curves of the scene's animations, each as a dictionary."""
        return self.ask("iter_fcurves", {})

    def current_frame(self) -> int:
        """The frame that the scene is at."""
        return self.ask("current_frame", {})

    def cycles_settings(
        self,
        device: str | None = None,
        samples: int | None = None,
        threshold: float | None = None,
        denoise: bool | None = None,
        bounces: int | None = None,
        persistent_data: bool | None = None,
        seed: int | None = None,
    ) -> list[Any]:
        """Sets how Cycles renders, and gives the devices that are really on.

        `device` is for being sure, as `cpu`, `cuda`, `optix`, …: a session has one device, and if
        that is another one, a `RuntimeError` says so. `samples` a pixel, fewer where noise falls
        below `threshold` (0 turns that off); `bounces` of light in all; `persistent_data` keeps
        what has been prepared between frames, which is faster and takes memory.
        """
        args = given(device=device, samples=samples, threshold=threshold, denoise=denoise)
        more = given(bounces=bounces, persistent_data=persistent_data, seed=seed)
        return self.ask("cycles_settings", args | more)

    def camera_extrinsics(self) -> list[list[float]]:
        """The camera's pose at the present frame: 4×4, camera to world, without scale."""
        return self.ask("camera_extrinsics", {})

    def camera_intrinsics(self) -> list[list[float]]:
        """The 3×3 matrix K that projects points in front of the camera to pixels, from the top left
        corner of the picture: (u, v, 1) ~ K · (x, −y, −z) in the camera's axes.
        """
        return self.ask("camera_intrinsics", {})

    def camera_info(self) -> dict[str, Any]:
        """What a `transforms.json` begins with: the lens in mm, angles of view in radians, the
        picture's size and focal lengths in pixels.
        """
        return self.ask("camera_info", {})

    def include_segmentations(
        self,
        debug: bool = False,
        codec: Codec = "ZIP",
        ids: dict[str, int] | None = None,
    ) -> dict[int, str]:
        """From now on every frame comes with the number of the object that is seen,
        `segmentations/segmentation_000012.exr`, 0 where there is nothing. Gives the names of
        objects by their numbers. With `ids`, numbers by names, only those objects have one, and
        that one.
        """
        args = {"debug": debug, "codec": codec, **given(ids=ids)}
        return by_number(self.ask("include_segmentations", args))

    def include_materials(self, debug: bool = False, codec: Codec = "ZIP") -> dict[int, str]:
        """From now on every frame comes with the number of the material that is seen,
        `materials/material_000012.exr`, 0 where there is none. Gives the names of materials by
        their numbers.
        """
        return by_number(self.ask("include_materials", {"debug": debug, "codec": codec}))

    # Rendering

    def render_current_frame(
        self, *, allow_skips: bool = True, dry_run: bool = False, update: Update | None = None
    ) -> dict[str, Any]:
        """Renders the frame that the scene is at; otherwise as `render_frames`."""
        return self._render([self.current_frame()], allow_skips, dry_run, update)

    def render_frame(
        self,
        frame: int,
        *,
        allow_skips: bool = True,
        dry_run: bool = False,
        update: Update | None = None,
    ) -> dict[str, Any]:
        """Renders one frame; otherwise as `render_frames`."""
        return self._render([frame], allow_skips, dry_run, update)

    def render_frames(
        self,
        frames: Iterable[int],
        *,
        allow_skips: bool = True,
        dry_run: bool = False,
        update: Update | None = None,
    ) -> dict[str, Any]:
        """Renders frames, each once, and brings their files into the root folder:
        `frames/frame_000012.png` and what `include_…` asked for.

        Returns what a `transforms.json` holds: the camera's fields, and `frames`, a dictionary for
        each in the order that was asked for, with `file_path` (below the root folder), such as
        `depth_file_path`, and `transform_matrix`, 4×4 camera to world.

        `allow_skips`: a frame whose files are all there and whole is not rendered again. `dry_run`
        renders nothing and returns what would have come. `update` is told of progress: anything
        that takes `total=` and `advance=` in frames, and, if it likes, `partial=`: how much of the
        frames under way is done, in frames; a task of `grange.Progress`, or
        `partial(progress.update, task)` of rich.

        Raises `ValueError` if `initialize` was given no root folder, and `InstanceLost`.
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
        frames = animation(self.animation_range_tuple(), start, end, step)
        return self._render(frames, allow_skips, dry_run, update)

    # Operations of people's own

    def call(self, operation: str, /, *args: Any, **named: Any) -> Any:
        """Does an operation by its name, one of Grange's or of an extension."""
        return self.ask(operation, {**({"$args": args} if args else {}), **named})

    def ask(self, operation: str, args: dict[str, Any]) -> Any:
        """Does an operation with arguments as they travel."""
        return self._held().call(operation, args, warned=self._warn)

    def _warn(self, warning: str) -> None:
        self._logger.warning("%s", warning)

    def __getattr__(self, name: str) -> Any:
        extended: dict[str, Callable[..., Any]] = self.__dict__.get("_extended", {})
        if name in extended:
            return extended[name]
        raise AttributeError(no_operation(name, extended, bool(self.__dict__.get("_sources"))))

    # Inside

    def _do(self, operation: str, args: dict[str, Any]) -> None:
        self.ask(operation, args)

    def _held(self) -> Session:
        if self._closed:
            raise InstanceLost("this client was closed: ask the farm for another one")
        if self._session is None:
            raise GrangeError("no scene is open: call `initialize(blend_file, root_path)` first")
        return self._session

    def _adopt(self, session: Session | None) -> None:
        with self._lock:
            self._session = session
            # Whoever closes this client in another thread may have come first.
            closed = self._closed
        if closed:
            self._release(keep=False)
            raise InstanceLost("this client was closed while it waited for an instance")

    def _ask_for(self, scene: Scene) -> Session:
        """A new session, which has no instance yet."""
        name = self._name or PurePosixPath(scene.blend).stem
        session = Session(self._farm, scene, name=name, **self._wishes)
        log_dir = self._log_dir
        if log_dir:
            session.farewell = lambda: _logs.save(session, name, log_dir)
        self._adopt(session)
        return session

    def _wait_for(self, session: Session) -> bool:
        """Whether the session has its instance. If not, another one of a pool was there before."""

        def news(text: str) -> None:
            self._logger.info("session %d waits: %s", session.id, text)

        got = session
        if self._shelf:
            got = self._shelf.wait(session, news)
        else:
            session.wait(news)
        if got is not session:
            self._adopt(got)
            return False
        self._logger.info("session %d has its instance", session.id)
        return True

    def _release(self, *, keep: bool) -> None:
        with self._lock:
            session, self._session = self._session, None
            renderer, self._renderer = self._renderer, None
        if renderer:
            renderer.close()
        if session is None:
            return
        if keep and self._shelf and session.ready:
            self._shelf.put(session)
            return
        session.end()

    def _reopened(self) -> bool:
        """Whether the session that there is could open its scene afresh."""
        try:
            self.reset()
        except InstanceLost:
            if self._closed:
                raise
            self._release(keep=False)
            return False
        return True

    def _extend(self) -> None:
        def method(name: str) -> Callable[..., Any]:
            def extension(*args: Any, **named: Any) -> Any:
                return self.call(name, *args, **named)

            extension.__name__ = name
            return extension

        session = self._held()
        names = session.extended
        if names is None:
            names = list[str]()
            for source in self._sources:
                sent = {"name": source.name, "source": source.text}
                names += session.call("extend", sent)
            session.extended = names
        self._extended |= {name: method(name) for name in names}

    def renderer(self) -> Renderer:
        """The client's side of rendering. Raises `ValueError` if there is no root folder."""
        session = self._held()
        if self._root is None:
            raise ValueError(
                "renders have no place to go: call initialize(blend_file, root_path) with a folder"
            )
        if self._renderer and self._renderer.root != self._root:
            self._renderer.close()
            self._renderer = None
        if self._renderer is None:
            self._renderer = Renderer(session, self._root, self._logger)
        return self._renderer

    def _render(
        self, frames: Iterable[int], allow_skips: bool, dry_run: bool, update: Update | None
    ) -> dict[str, Any]:
        renderer = self.renderer()
        plan = Plan(self.ask, renderer.root, frames, allow_skips)
        teller = Teller(update)
        plan.begin(teller)
        if dry_run:
            teller.advance(len(plan.todo), 0.0)
            return plan.transforms({})
        work = Work(plan.todo, teller)
        serve(renderer, work)
        return plan.transforms(work.wait())


def serve(renderer: Renderer, work: Work) -> None:
    """Lets an instance take frames of the work, in a thread of its own. That it is lost is told by
    the work.
    """

    def run() -> None:
        try:
            renderer.serve(work)
        except InstanceLost as lost:
            work.fail(lost)

    threading.Thread(target=run, name="grange-render", daemon=True).start()


def animation(
    own: tuple[int, int, int], start: int | None, end: int | None, step: int | None
) -> range:
    """Frames from start to end, both of them among these. Raises `ValueError` for a step of 0 or
    less.
    """
    step = own[2] if step is None else step
    if step < 1:
        raise ValueError(f"a step of {step} leads nowhere: give 1 or more")
    return range(own[0] if start is None else start, (own[1] if end is None else end) + 1, step)


def by_number(names: dict[str, str]) -> dict[int, str]:
    """Keys of JSON are texts."""
    return {int(number): name for number, name in names.items()}


def no_operation(name: str, extended: Iterable[str], expecting: bool) -> str:
    """What to say of a name that is none."""
    own = [one for one in dir(Blender) if not one.startswith("_")]
    known = sorted({*own, *extended})
    close: Sequence[str] = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"there is no operation `{name}`: did you mean `{close[0]}`?"
    if expecting and not extended:
        return f"there is no operation `{name}`: those of extensions are there after `initialize`"
    return f"there is no operation `{name}`; there are {', '.join(known)}"
