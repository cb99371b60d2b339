# SPDX-License-Identifier: GPL-3.0-or-later
"""A list of pictures that is being rendered, one after the other; there is one at most.

Blender's handlers only set flags here, since a render calls them from a thread of its own: whatever
follows from them is done by `tick`, which a timer of the window calls, or by `render_all`, which
returns when everything is written.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

import bpy
from bpy.app.handlers import persistent

from . import applying, looking, settings
from .plan.pictures import Picture
from .plan.progress import Progress, clock

SILENCE_S = 1.5
"""A render that has ended and told nobody has failed."""

BEGIN_S = 2.0
"""Longest wait for a render that was just started to read its settings."""


class Failed(Exception):
    """A picture was not rendered; the message is a sentence for people."""


class Run:
    """Pictures on their way. `begin`, then `tick` or `render_all`, and in the end `end`."""

    def __init__(self, pictures: list[Picture]) -> None:
        self.pictures = pictures
        self.progress = Progress([picture.shot.weight for picture in pictures])
        self.said = ""
        """How it ended, in a sentence."""
        self.went_well: bool | None = None
        """None until it is over."""
        self.wants_to_stop = False
        """After the picture that is being rendered."""
        self._rendering = False
        self.at_end: Callable[[], object] | None = None
        """Called once when it is over, however that came."""
        self._began = False
        self._completed = False
        self._canceled = False
        self._undone = False
        self._quiet_since: float | None = None
        self._files_before: dict[str, int | None] = {}
        self._areas: dict[int, str] = {}

    @property
    def picture(self) -> Picture:
        """The one that is being rendered, or is next; in the end the last."""
        return self.pictures[min(self.progress.done, len(self.pictures) - 1)]

    @property
    def is_over(self) -> bool:
        return self.went_well is not None

    def begin(self) -> None:
        global current
        current = self
        for name, handler in HANDLERS:
            getattr(bpy.app.handlers, name).append(handler)

    def end(self, went_well: bool, said: str) -> None:
        """Puts back whatever was changed. Ending again does nothing."""
        global current, last
        if self.is_over:
            return
        self.went_well, self.said = went_well, said
        for name, handler in HANDLERS:
            handlers = getattr(bpy.app.handlers, name)
            if handler in handlers:
                handlers.remove(handler)
        wrong = settings.put_all_back()
        if not is_rendering():
            looking.clear()
        self._put_areas_back()
        if wrong:
            self.went_well, self.said = False, f"{self.said}; {wrong[0]}"
        current, last = None, self
        if self.at_end is not None:
            self.at_end()

    # One after the other, while the window is alive.

    def tick(self) -> None:
        """One step, which is short but for the start of a render."""
        try:
            if self._rendering:
                self._wait()
            elif not is_rendering():
                self._next()
        except Failed as error:
            self.end(False, f"{error}; {self.written()}")
        except (LookupError, ReferenceError):
            self.end(False, f"{self._shot()}: its scene or camera is gone")
        except Exception as error:
            # A fault of ours, for the console; the scene is put back all the same.
            self.end(False, f"{self._shot()}: {error}")
            raise

    def _next(self) -> None:
        if self.progress.done == len(self.pictures):
            self.end(True, self.written())
        elif self.wants_to_stop:
            self.end(False, f"stopped: {self.written()}")
        else:
            self._prepare()
            self._rendering = True
            try:
                self._open_render()
            except RuntimeError as error:
                self._rendering = False
                raise Failed(f"{self._shot()}: {reason(error)}") from None

    def _open_render(self) -> None:
        """Starts a render in the way in which the user wants to see it.

        A full screen hides everything, and rendering again from there forgets the layout: the
        picture gets the largest area instead, which is given back in the end.
        """
        preferences = bpy.context.preferences
        view, was_dirty = preferences.view, preferences.is_dirty
        shown = view.render_display_type
        before = areas()
        try:
            if shown == "SCREEN":
                view.render_display_type = "AREA"
            bpy.ops.render.render("INVOKE_DEFAULT", **self._arguments())
        finally:
            if view.render_display_type != shown:
                view.render_display_type = shown
                preferences.is_dirty = was_dirty
            for area, kind in areas().items():
                if before.get(area, kind) != kind:
                    self._areas.setdefault(area, before[area])

    def _wait(self) -> None:
        if is_rendering():
            return
        if not (self._completed or self._canceled):
            # The handlers may be a moment behind; an engine that cannot start says nothing.
            now = time.monotonic()
            self._quiet_since = self._quiet_since or now
            if now - self._quiet_since < SILENCE_S:
                return
        self._rendering = False
        if self._undone:
            # Whatever this picture shows, it may be half of what was and half of what is; or it
            # was ended by that, which nobody wanted. It is rendered again.
            return
        if self._canceled and not self._is_written():
            self.end(False, f"canceled: {self.written()}")
            return
        self._finish()

    # One after the other, for scripts.

    def render_all(self, tell: Callable[[float], object]) -> None:
        """Renders everything and returns when it is written; `tell` hears the part that is done."""
        while not self.is_over:
            tell(self.progress.fraction(time.monotonic()))
            try:
                if self.progress.done == len(self.pictures):
                    self.end(True, self.written())
                    continue
                self._prepare()
                bpy.ops.render.render(**self._arguments())
                if self._canceled and not self._is_written():
                    self.end(False, f"canceled: {self.written()}")
                else:
                    self._finish()
            except RuntimeError as error:
                self.end(False, f"{self._shot()}: {reason(error)}; {self.written()}")
            except Failed as error:
                self.end(False, f"{error}; {self.written()}")
            except LookupError:
                self.end(False, f"{self._shot()}: its scene or camera is gone")

    # Both.

    def _prepare(self) -> None:
        self._began = self._completed = self._canceled = self._undone = False
        self._quiet_since = None
        applying.show(self.picture)
        folder = os.path.dirname(self.picture.path)
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise Failed(
                f"{self._shot()}: the folder {folder} cannot be made "
                f"({error.strerror}): choose another output path"
            ) from None
        self._files_before = {path: changed_ns(path) for path in applying.files(self.picture)}
        self.progress.begin(time.monotonic())

    def _arguments(self) -> dict:
        scene = self.picture.shot.scene
        other = {} if bpy.context.scene.name == scene else {"scene": scene}
        return {"write_still": True, **other}

    def _is_written(self) -> bool:
        return all(changed_ns(path) not in (None, was) for path, was in self._files_before.items())

    def _finish(self) -> None:
        if not self._is_written():
            raise Failed(
                f"{self._shot()}: {self.picture.path} was not written: Blender's "
                "Info editor or its console says why"
            )
        self.progress.finish(time.monotonic())

    def let_it_begin(self) -> None:
        """Waits until the render that was started has read where its picture goes: only then may
        the scene be changed under it, or it would write to the user's own output path."""
        until = time.monotonic() + BEGIN_S
        while self._rendering and not (self._began or self._canceled or self._completed):
            if time.monotonic() > until or not is_rendering():
                return
            time.sleep(0.01)

    def _put_areas_back(self) -> None:
        for window in bpy.context.window_manager.windows:
            for area in window.screen.areas:
                kind = self._areas.pop(area.as_pointer(), None)
                if kind is not None and area.type == "IMAGE_EDITOR":
                    area.ui_type = kind

    # For people.

    def _shot(self) -> str:
        return f"shot `{self.picture.shot.name}`"

    def written(self) -> str:
        done, total = self.progress.done, self.progress.total
        if done == total:
            return f"{count(total, 'picture')} written"
        return f"{done} of {count(total, 'picture')} written"

    def line(self) -> str:
        """Where it is, in a line."""
        return "  ·  ".join(self.words())

    def words(self) -> list[str]:
        """Where it is, in a few words each."""
        picture = self.picture
        shots = self.pictures[-1].number
        words = [f"Shot {picture.number} of {shots}: {picture.shot.name}, frame {picture.frame}"]
        if len(self.pictures) != shots:
            at = min(self.progress.done + 1, self.progress.total)
            words.append(f"picture {at} of {self.progress.total}")
        left = self.progress.left_s(time.monotonic())
        if left is not None:
            words.append(f"{clock(left)} left")
        if self.wants_to_stop:
            words.append("stops after this picture")
        return words


current: Run | None = None
"""The one that renders now."""
last: Run | None = None
"""The one before, for the panel to say how it ended."""


def fraction() -> float:
    """0 to 1, of the run of now."""
    return current.progress.fraction(time.monotonic()) if current else 0.0


def is_rendering() -> bool:
    """Whether Blender renders in its window, for us or for the user."""
    return bpy.app.is_job_running("RENDER")


def areas() -> dict[int, str]:
    """What kind of editor each area of every window is."""
    windows = bpy.context.window_manager.windows
    return {area.as_pointer(): area.ui_type for one in windows for area in one.screen.areas}


def changed_ns(path: str) -> int | None:
    """When a file with something in it was last changed."""
    with contextlib.suppress(OSError):
        found = os.stat(path)
        if found.st_size:
            return found.st_mtime_ns
    return None


def reason(error: Exception) -> str:
    """What Blender's operator reports, without its decoration."""
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return first.removeprefix("Error:").strip().rstrip(".")


def count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


@persistent
def _on_pre(*_):
    if current:
        current._began = True


@persistent
def _on_complete(*_):
    if current:
        current._completed = True


@persistent
def _on_cancel(*_):
    if current:
        current._canceled = True


@persistent
def _on_undo(*_):
    if current:
        current._undone = True
        current.let_it_begin()


@persistent
def _on_save(*_):
    """The file gets the user's settings."""
    if current:
        current.let_it_begin()
    settings.put_all_back()


@persistent
def _on_saved(*_):
    run = current
    if run and run._rendering:
        with contextlib.suppress(LookupError):
            applying.show(run.picture)


@persistent
def _on_load(*_):
    if current:
        current.end(False, f"another file was opened: {current.written()}")


HANDLERS = (
    ("render_pre", _on_pre),
    ("render_complete", _on_complete),
    ("render_cancel", _on_cancel),
    ("undo_pre", _on_undo),
    ("redo_pre", _on_undo),
    ("save_pre", _on_save),
    ("save_post", _on_saved),
    ("load_pre", _on_load),
)
"""Only while a run goes on. Persistent, because opening a file drops all others before they hear
of it."""


def unregister() -> None:
    """An add-on that is turned off leaves nothing behind."""
    if current:
        current.end(False, "the add-on was turned off")
