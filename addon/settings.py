# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of a scene that are changed for a picture, and put back after it.

What was there before is written down in the scene itself (`Scene.grange.before`) before anything
is changed. So it is part of every state that undo or an autosave keep, and such a state is put
right whenever it comes up again, even if the render that changed it is long over. Things are
written down by path and name, because undo and saving leave no reference to a thing valid.
"""

from __future__ import annotations

import json
from typing import Any

import bpy
from bpy.app.handlers import persistent

from . import looking

FRAME = "frame"
"""Stands for `frame_current` and `frame_subframe`, which are set together."""


class Changes:
    """Changes settings of one scene and writes down what they were."""

    def __init__(self, scene: bpy.types.Scene) -> None:
        self._scene = scene
        self._before: list[list[Any]] = read_before(scene)

    def set(self, path: str, value: Any) -> None:
        """What already has its value stays untouched, for Blender works whenever one is set."""
        if _read(self._scene, path) != _plain(value):
            self.remember(path)
            _write(self._scene, path, _plain(value))

    def remember(self, *paths: str) -> None:
        """For settings that Blender changes along with others."""
        for path in paths:
            self._before.append([path, _read(self._scene, path)])
        self._scene.grange.before = json.dumps(self._before)

    def has(self, path: str) -> bool:
        return _has(self._scene, path)


def read_before(scene: bpy.types.Scene) -> list[list[Any]]:
    text = scene.grange.before
    return json.loads(text) if text else []


def put_back(scene: bpy.types.Scene, *, but_frame: bool = False) -> list[str]:
    """Puts everything back, the last change first; what could not be, as sentences.

    With `but_frame` the frame stays, for a picture that follows: going there and back costs.
    """
    before = read_before(scene)
    wrong: list[str] = []
    # The frame is first, as it may switch to a marker's camera, which is put back after it.
    frames = [entry for entry in before if entry[0] == FRAME][:1]
    others = [entry for entry in reversed(before) if entry[0] != FRAME]
    for path, value in others if but_frame else frames + others:
        try:
            if _read(scene, path) != value:
                _write(scene, path, value)
        except (AttributeError, KeyError, IndexError, RuntimeError, TypeError, ValueError) as error:
            wrong.append(f"{path} of scene `{scene.name}` could not be put back: {error}")
    scene.grange.before = json.dumps(frames) if but_frame and frames else ""
    return wrong


def allow_writing() -> None:
    """While an engine renders Blender takes the main thread for one that draws, and lets Python
    write nothing, until any operator was asked something."""
    bpy.ops.grange.render_shots.poll()


def put_all_back() -> list[str]:
    """In every scene; what could not be, as sentences."""
    allow_writing()
    scenes = [scene for scene in bpy.data.scenes if scene.grange.before]
    return [wrong for scene in scenes for wrong in put_back(scene)]


@persistent
def mend(*_: Any) -> None:
    """After undo, redo and loading: the state may be one from the middle of a render."""
    for wrong in put_all_back():
        print("grange:", wrong)
    if not bpy.app.is_job_running("RENDER"):
        looking.clear()


MENDED_AFTER = ("undo_post", "redo_post", "load_post")


def register() -> None:
    for name in MENDED_AFTER:
        getattr(bpy.app.handlers, name).append(mend)


def unregister() -> None:
    for name in MENDED_AFTER:
        handlers = getattr(bpy.app.handlers, name)
        if mend in handlers:
            handlers.remove(mend)


def _plain(value: Any) -> Any:
    """As JSON can have it."""
    if isinstance(value, bpy.types.Object):
        return {"object": value.name, "library": value.library and value.library.filepath}
    return list(value) if isinstance(value, tuple) else value


def _read(scene: bpy.types.Scene, path: str) -> Any:
    if path == FRAME:
        return [scene.frame_current, scene.frame_subframe]
    owner, name = _owner(scene, path)
    return _plain(getattr(owner, name))


def _write(scene: bpy.types.Scene, path: str, value: Any) -> None:
    if path == FRAME:
        # Unlike setting `frame_current` this switches cameras now and not some time later.
        scene.frame_set(value[0], subframe=value[1])
        return
    if isinstance(value, dict):
        key = (value["object"], value["library"]) if value["library"] else value["object"]
        value = bpy.data.objects[key]
    owner, name = _owner(scene, path)
    setattr(owner, name, value)


def _has(scene: bpy.types.Scene, path: str) -> bool:
    try:
        owner, name = _owner(scene, path)
    except (AttributeError, ValueError):
        return False
    return hasattr(owner, name)


def _owner(scene: bpy.types.Scene, path: str) -> tuple[Any, str]:
    head, _, name = path.rpartition(".")
    return (scene.path_resolve(head) if head else scene), name
