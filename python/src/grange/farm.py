"""A farm: where jobs go, and where Blender instances come from.

Owns the connection and what must end with it: the sessions of this client, and the local farm if
there is one. How scenes are read, what an instance can do and how frames are shared out among
several of them is for the modules that it calls.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import _request
from ._alive import Alive
from ._connect import find
from ._http import Api, OnBytes
from ._request import Frames, Shot, Size, Wanted
from .errors import GrangeError
from .jobs import Job, pages
from .local import Local, StrPath, command

if TYPE_CHECKING:
    from ._extensions import Extension
    from .blender import Blender
    from .instances import Instances
    from .pool import Pool


class Farm:
    """A farm that one is connected to. Close it, or use it in a `with`."""

    def __init__(self, api: Api, local: Local | None = None) -> None:
        """Takes over `api` and `local`: closing the farm closes them. Asks nothing yet."""
        self.api = api
        """The HTTP API, for what has no method here."""
        self._local = local
        if local is not None:
            api.is_gone = local.is_over
        self._alive = Alive(api)
        self._pid = os.getpid()

    def __enter__(self) -> Farm:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        host, port = self.api.connect.addresses[0]
        return f"<grange.Farm {host}:{port}>"

    def close(self) -> None:
        """Ends this client's sessions, and the farm itself if it is a local one.

        Jobs go on, but for those of a local farm. Closing again does nothing.
        """
        if self._pid == os.getpid():
            for session in self._alive.sessions():
                # One that cannot be ended now ends when nothing is heard of this client.
                with contextlib.suppress(GrangeError):
                    self.api.delete(f"/sessions/{session}")
                self._alive.let_go(session)
        self.api.close()
        if self._local is not None:
            self._local.close()
            self._local = None

    def instance(
        self,
        *,
        log_dir: StrPath | None = None,
        extensions: Iterable[Extension] = (),
        name: str | None = None,
        priority: int | None = None,
        idle_s: int | None = None,
        settings: dict[str, Any] | None = None,
        tags: Iterable[str] = (),
    ) -> Blender:
        """A Blender instance, which begins when it is given a scene.

        What Blender prints goes to `log_dir`; `extensions` are Python files, modules and functions
        that become its methods; `name` is what the farm lists it as; `priority` is that of a job,
        0 to 100; the farm ends the instance if nothing is asked of it for `idle_s` seconds.
        `settings` are those of renders as the HTTP API has them, such as `{"device": "cuda"}`; only
        a host that has all `tags` is asked.
        """
        from .blender import Blender

        return Blender(
            self,
            log_dir=_path(log_dir),
            extensions=extensions,
            name=name,
            priority=priority,
            idle_s=idle_s,
            settings=settings,
            tags=tags,
        )

    def instances(
        self,
        count: int,
        *,
        log_dir: StrPath | None = None,
        extensions: Iterable[Extension] = (),
        name: str | None = None,
        priority: int | None = None,
        idle_s: int | None = None,
        settings: dict[str, Any] | None = None,
        tags: Iterable[str] = (),
    ) -> Instances:
        """Several instances of one scene that share out its frames; otherwise as `instance`."""
        from .instances import Instances

        return Instances(
            self,
            count,
            log_dir=_path(log_dir),
            extensions=extensions,
            name=name,
            priority=priority,
            idle_s=idle_s,
            settings=settings,
            tags=tags,
        )

    def pool(
        self,
        limit: int | None = None,
        *,
        reruns: int = 3,
        log_dir: StrPath | None = None,
        extensions: Iterable[Extension] = (),
        name: str | None = None,
        priority: int | None = None,
        idle_s: int | None = None,
        settings: dict[str, Any] | None = None,
        tags: Iterable[str] = (),
    ) -> Pool:
        """Instances for functions that each want one; as many as there is room, or `limit`. A call
        whose instance is lost is made again, `reruns` times at most; the rest as for `instance`.
        """
        from .pool import Pool

        return Pool(
            self,
            limit,
            reruns=reruns,
            log_dir=_path(log_dir),
            extensions=extensions,
            name=name,
            priority=priority,
            idle_s=idle_s,
            settings=settings,
            tags=tags,
        )

    def submit(
        self,
        path: StrPath,
        *,
        content: StrPath | None = None,
        frames: Frames | None = None,
        shots: Sequence[Shot] | None = None,
        scene: str | None = None,
        camera: str | None = None,
        view_layer: str | None = None,
        resolution: Size | None = None,
        samples: int | None = None,
        output: str | None = None,
        name: str | None = None,
        priority: int | None = None,
        settings: Mapping[str, Any] | None = None,
        tags: Iterable[str] = (),
        preview: bool = False,
        chunk: int = 1,
        allow_missing: bool = False,
        require_all: bool = False,
        on_bytes: OnBytes | None = None,
        on_warning: Callable[[str], object] | None = None,
    ) -> Job:
        """Renders a scene file on the farm: its animation, or these shots of it.

        What is not given stays as the file has it. `content` is a .blend file that is sent in the
        place of the one at `path`, which need not be there: a copy with changes that are not saved
        yet, whose relative paths are meant from `path`. `frames` are `"1-250"`, `"1-100x4"`, a
        number, a range or any numbers; `resolution` is in pixels, `samples` per pixel; `output` is
        the pictures' name without extension, where a run of # is the frame's number; `priority` is
        0 (last) to 100 (first), 50 unless told; `settings` are those of `RenderSettings` in
        `/openapi.json`, such as `{"device": "cpu"}`; only hosts that have all `tags` render it;
        `preview` adds a video; `chunk` is how many
        frames one instance renders in a row. The scene's files are sent first, which `on_bytes`
        hears of; `on_warning` hears what is odd about the scene.

        Raises `ValueError` for frames, scenes, cameras or view layers that there are not;
        `MissingFiles` for a library that is not there unless `allow_missing`, and for any other
        file if `require_all`; and `Refused` if no host of the farm can render it.
        """
        from . import _scene

        uploaded = _scene.upload(
            self.api,
            Path(path),
            content=None if content is None else Path(content),
            allow_missing=allow_missing,
            require_all=require_all,
            on_bytes=on_bytes,
        )
        if on_warning is not None:
            for warning in uploaded.warnings:
                on_warning(warning)
        kind = _request.kind(
            uploaded.summary,
            uploaded.blend,
            uploaded.needs,
            Wanted(frames, scene, camera, view_layer, resolution, samples, output),
            shots,
            settings={"allow_missing": allow_missing} | dict(settings or {}),
            chunk=chunk,
            preview=preview,
        )
        submission: dict[str, Any] = {
            "name": name or Path(path).name,
            "manifest": uploaded.manifest,
            "kind": kind,
        }
        if priority is not None:
            submission["priority"] = priority
        if wanted := _request.tags(tags):
            submission["tags"] = wanted
        key = {"Idempotency-Key": uuid.uuid4().hex}
        return Job(self.api, self.api.post("/jobs", submission, key))

    def jobs(self) -> Iterator[Job]:
        """The farm's jobs, the latest first."""
        return (Job(self.api, view) for view in pages(self.api, "/jobs"))

    def job(self, id: int) -> Job:
        """The job of that number. Raises `Refused` (404) if there is none."""
        return Job(self.api, self.api.get(f"/jobs/{id}")["job"])

    def agents(self) -> list[dict[str, Any]]:
        """The farm's render hosts and their devices: each an `AgentView` of `/openapi.json`."""
        return self.api.get("/agents")

    def room(self, tags: Iterable[str] = ()) -> int:
        """Instances that the farm's devices run at once now, of everybody; at least 1. With `tags`,
        of hosts that have them all.
        """
        wanted = set(_request.tags(tags))
        states = (
            state
            for agent in self.agents()
            if agent["state"] == "online" and wanted.issubset(agent["tags"])
            for state in agent["device_states"]
        )
        return max(1, sum(int(state["slots"]) for state in states))

    def abort(self) -> None:
        """Breaks off whatever is under way in other threads, which raises `NotConnected` there, and
        closes the farm without a word. Jobs go on; sessions end when nothing is heard of them.
        """
        self.api.abort()

    def _hold(self, session: int, on_end: Callable[[], None] | None = None) -> None:
        """Tells the farm from now on that a session is wanted; `close` ends it.

        `on_end` is called once, in another thread, if the farm has ended it.
        """
        self._alive.hold(session, on_end)

    def _let_go(self, session: int) -> None:
        """Forgets a session that is over, or that its owner has ended."""
        self._alive.let_go(session)


def connect(where: str | None = None, *, check: bool = True) -> Farm:
    """The farm of a connect string: `where`, else `GRANGE_CONNECT`, else the user's file.

    Raises `NotConnected` if there is none or the farm cannot be reached, `ValueError` for a connect
    string that is none, and `Refused` (401) for a token that is not good any more. Without `check`
    the farm is not asked yet, and the first request raises that.
    """
    farm = Farm(Api(find(where)))
    return _checked(farm) if check else farm


def local(
    *,
    instances: int | None = None,
    blender: StrPath | Sequence[StrPath] | None = None,
    sandbox: bool | None = None,
    memory_gib: float | None = None,
    log: StrPath | None = None,
    program: StrPath | None = None,
) -> Farm:
    """A farm of this machine alone, which ends with the returned `Farm` or with this process.

    `instances` is how many Blenders render at once on each device, found by measuring unless told;
    `blender` is an executable, a Python that has the bpy module, or several, those that are found
    unless told; `sandbox` locks Blender into bubblewrap, on unless told; `memory_gib` is the RAM
    that Blenders may use together; `log` is a file that the farm's messages are added to; `program`
    is `grange` itself, else `GRANGE_PROGRAM`, else the one on the PATH.

    Raises `GrangeError` if there is no program and `NotConnected` if it does not start.
    """
    words = command(
        instances=instances,
        blender=blender,
        sandbox=sandbox,
        memory_gib=memory_gib,
        program=program,
    )
    started = Local(words, log)
    return _checked(Farm(Api(started.connect), started))


def _path(path: StrPath | None) -> Path | None:
    return None if path is None else Path(path)


def _checked(farm: Farm) -> Farm:
    """The farm, which has answered once with this token."""
    try:
        farm.api.get("/farm")
    except BaseException:
        farm.close()
        raise
    return farm
