"""One render: prepared, run, watched, and the scene put back whatever came of it."""

from __future__ import annotations

import os
import time
from typing import Any

import bpy
from bpy.app.handlers import persistent

from worker import host
from worker.link import Link, Refused, clip
from worker.opening import bounded, scripts_not_run
from worker.overrides import Overrides
from worker.persistence import Persistence
from worker.picture import picture_size
from worker.session import frames
from worker.session.state import Session
from worker.shot import Prepared, prepare
from worker.stop import Stopper

STATS_EVERY_S = 0.05
"""Progress is for people: no more often than this, but that every change of Cycles' memory is
told, because 5.0 does not say what the most was."""

SHOT_FIELDS = (
    *("view_layer", "camera", "resolution", "samples", "device", "device_pci"),
    *("threads", "tiles", "fine_progress"),
)
"""Of an order: what changes the picture besides the frame, or how Cycles makes it."""


class Renderer:
    """Renders one shot after the other and answers each order once."""

    def __init__(self, link: Link, stopper: Stopper, threads: int) -> None:
        self._link = link
        self._stopper = stopper
        self._threads = threads
        self._persistence = Persistence()
        self._render: int | None = None
        self._stopped = False
        self._stats_sent = 0.0
        self._memory_told = ""
        self._listen()

    def _listen(self) -> None:
        # Plain functions, because Blender marks them; persistent, because opening a file drops
        # all others. `stats` runs on a thread of the render and must not touch the scene.
        @persistent
        def on_stats(stats: Any, *_: Any) -> None:
            self._on_stats(stats)

        @persistent
        def on_cancel(*_: Any) -> None:
            self._stopped = True

        bpy.app.handlers.render_stats.append(on_stats)
        bpy.app.handlers.render_cancel.append(on_cancel)

    def _on_stats(self, stats: Any) -> None:
        if self._render is None:
            return  # An engine that is probed reports too, and nobody waits for it.
        if not isinstance(stats, str):
            return
        now = time.monotonic()
        memory = next((part for part in stats.split(" | ") if part.startswith("Mem:")), "")
        if memory != self._memory_told or now - self._stats_sent >= STATS_EVERY_S:
            self._stats_sent, self._memory_told = now, memory
            self._link.send("stats", id=self._render, text=clip(stats))

    def file_opened(self) -> None:
        self._persistence.file_opened()

    def scene_changed(self) -> None:
        self._persistence.scene_changed()

    def run(self, order: dict[str, Any], session: Session | None) -> bool:
        """Renders and answers; with a session, as that has the scene. False if the scene could not
        be put back as the file has it."""
        render = order["id"]
        overrides = Overrides()
        begun = time.monotonic()
        reset_peak_memory()
        self._render, self._stopped = render, False
        answer: dict[str, Any] = {"kind": "failed"}
        try:
            wanted = self._stopper.begin(render)
            done = self._render_shot(order, overrides, session) if wanted else None
            answer = self._answer(done, time.monotonic() - begun)
        except Refused as refused:
            answer = {"kind": "failed", "fault": refused.kind, "reason": clip(str(refused))}
        except (RuntimeError, MemoryError) as error:
            answer = self._failure(render, error)
        finally:
            self._render = None
            self._stopper.end(render)
            if answer["kind"] != "rendered":
                self._persistence.drop()
            whole = overrides.restore()
        self._link.send(answer.pop("kind"), id=render, **answer)
        return whole

    def _render_shot(
        self, order: dict[str, Any], overrides: Overrides, session: Session | None
    ) -> dict[str, Any]:
        """Renders; what to tell of it if it was not stopped."""
        if session is not None:
            order = frames.before(session, order)
        prepared = prepare(order, self._threads, overrides)
        os.makedirs(order["scratch"], exist_ok=True)
        shot = [order[name] for name in SHOT_FIELDS]
        self._persistence.begin(prepared.scene, order["persistent_data"], shot)
        self._link.send("began", id=order["id"], passes=passes(prepared.scene))
        bpy.ops.render.render(**arguments(prepared))
        more = frames.after(session, order, overrides) if session and not self._stopped else {}
        width, height = picture_size(prepared.scene)
        return {
            "width": width,
            "height": height,
            "device": host.device_in_use(prepared.scene),
            "warnings": bounded(prepared.warnings + scripts_not_run()),
            **more,
        }

    def _answer(self, done: dict[str, Any] | None, seconds: float) -> dict[str, Any]:
        if self._stopped or done is None:
            return {"kind": "canceled"}
        return {"kind": "rendered", "seconds": seconds, "peak_mib": peak_memory_mib(), **done}

    def _failure(self, render: int, error: Exception) -> dict[str, Any]:
        if self._stopped and self._stopper.is_unwanted(render):
            return {"kind": "canceled"}
        fault = "out_of_memory" if isinstance(error, MemoryError) else None
        return {"kind": "failed", "fault": fault, "reason": clip(str(error))}


def arguments(prepared: Prepared) -> dict[str, Any]:
    """Of the render operator."""
    given: dict[str, Any] = {
        "animation": prepared.animation,
        "write_still": not prepared.animation,
    }
    if prepared.scene != bpy.context.scene:
        given["scene"] = prepared.scene.name
    return given


def passes(scene: bpy.types.Scene) -> int:
    """How often the engine runs for a frame: once for each view layer and view."""
    layers = sum(1 for layer in scene.view_layers if layer.use)
    views = sum(1 for view in scene.render.views if view.use) if scene.render.use_multiview else 1
    return max(1, layers * views)


def reset_peak_memory() -> None:
    """So that the peak is this render's; where that is not possible it is the process's."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def peak_memory_mib() -> int:
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) // 1024
    except OSError:
        pass
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
