# SPDX-License-Identifier: GPL-3.0-or-later
"""From the file that is open to what is sent: what is wrong with it before, and a copy of it with
all that is not saved yet. The user's own file is neither written nor changed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import bpy

from .. import looking, preferences, running, shots
from ..plan import hosts, pictures
from . import live
from .sending import Order

EXTERNAL = ("FILE", "SEQUENCE", "MOVIE", "TILED")
"""Sources of images that are files."""

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Problem:
    """Something that is wrong, and the button that mends it."""

    said: str
    operator: str | None = None
    label: str = ""
    icon: str = "NONE"
    stops: bool = True
    """Whether nothing can be sent before it is mended."""


def problems(scene: bpy.types.Scene, what: str, tags: tuple[str, ...]) -> Iterator[Problem]:
    """Whatever is known to be wrong, without looking at the disk or the network."""
    yield from of_farm()
    if live.link is not None:
        yield from of_file(scene, what, tags)


def of_file(scene: bpy.types.Scene, what: str, tags: tuple[str, ...]) -> Iterator[Problem]:
    """What the farm that there is could not render of it."""
    yield from of_versions()
    yield from of_tags(tags)
    yield from of_scene(scene, what)
    yield from of_images()


def of_farm() -> Iterator[Problem]:
    """Why there is no farm."""
    desk = live.desk
    if not preferences.is_online():
        yield Problem(
            "Blender is set to stay offline, and a farm is reached over the network",
            "grange.go_online",
            "Allow Online Access",
            "INTERNET",
        )
    elif live.link is None:
        said = live.problem or "no farm yet: paste the line that `grange token create --api` prints"
        yield Problem(said, "grange.sign_in", "Sign In", "LINKED")
    elif desk.lost is not None and desk.lost.is_refused:
        yield Problem(desk.lost.said, "grange.sign_in", "Sign In", "LINKED")
    elif desk.lost is not None:
        yield Problem(desk.lost.said, "grange.try_again", "Try Again", "FILE_REFRESH")
    elif desk.met is not None and desk.met.more and not desk.met.more.may_submit:
        yield Problem(
            f"{desk.met.more.who} is a viewer of {desk.met.farm}, who may look and not render: "
            "sign in with the connect string of a submitter",
            "grange.sign_in",
            "Sign In",
            "LINKED",
        )
    elif desk.met is None:
        yield Problem("connecting to the farm …")


def of_versions() -> Iterator[Problem]:
    """A file goes to a Blender of its own version, or to a later one."""
    met = live.desk.met
    if met is None:
        return
    if met.hosts == 0:
        yield Problem("no host of the farm is online: jobs wait until one comes", stops=False)
    versions = met.more.versions if met.more else ()
    if versions and max(versions) < bpy.app.version[:2]:
        own = "{}.{}".format(*bpy.app.version[:2])
        there = ", ".join("{}.{}".format(*version) for version in versions)
        yield Problem(
            f"the farm's hosts have Blender {there}, which cannot open files of Blender {own}: "
            f"install {own} on one of them",
            "grange.try_again",
            "Look Again",
            "FILE_REFRESH",
        )


def of_tags(tags: tuple[str, ...]) -> Iterator[Problem]:
    """Where no host is there at all, the job waits for one anyway."""
    agents = live.desk.agents()
    if agents and not any(agent.tags.issuperset(tags) for agent in agents):
        yield Problem(hosts.lacking(tags), "grange.try_again", "Look Again", "FILE_REFRESH")


def of_scene(scene: bpy.types.Scene, what: str) -> Iterator[Problem]:
    """What cannot be rendered as it is."""
    if scene.library is not None:
        yield Problem(f"scene `{scene.name}` is linked: render it from its own file")
        return
    if what == "SHOTS":
        try:
            pictures.for_farm(shots.wanted(scene, on_farm=True))
        except ValueError as error:
            yield Problem(str(error))
        return
    if scene.camera is None and not any(one.camera for one in scene.timeline_markers):
        if any(one.type == "CAMERA" for one in scene.objects):
            yield Problem(
                f"scene `{scene.name}` has no camera that renders it",
                "grange.use_camera",
                "Use a Camera of the Scene",
                "CAMERA_DATA",
            )
        else:
            yield Problem(
                f"scene `{scene.name}` has no camera",
                "object.camera_add",
                "Add a Camera",
                "CAMERA_DATA",
            )
    if scene.render.filepath.startswith("//") and not bpy.data.filepath:
        yield Problem(
            f"the output path `{scene.render.filepath}` begins at the file's folder, and the file "
            "was never saved",
            "wm.save_as_mainfile",
            "Save As…",
            "FILE_TICK",
        )


def of_images() -> Iterator[Problem]:
    """Pixels that are in no file do not travel."""
    painted = [one.name for one in bpy.data.images if one.is_dirty and not one.packed_file]
    painted = [name for name in painted if bpy.data.images[name].source in (*EXTERNAL, "GENERATED")]
    if painted:
        yield Problem(
            f"image `{painted[0]}` has changes that are in no file",
            "image.save_all_modified",
            "Save All Images",
            "FILE_IMAGE",
        )


def order(
    context: bpy.types.Context,
    what: str,
    *,
    priority: int,
    tags: tuple[str, ...],
    allow_missing: bool,
) -> Order:
    """Packs what is asked for. Raises `ValueError` with a sentence, and `OSError`."""
    scene = context.scene
    if running.is_rendering() or running.current:
        raise ValueError("a picture is being rendered here: wait for its end, or press Esc first")
    wrong = next((one for one in problems(scene, what, tags) if one.stops), None)
    if wrong is not None:
        raise ValueError(wrong.said)
    if preferences.autosaves() and bpy.data.filepath and bpy.data.is_dirty:
        bpy.ops.wm.save_mainfile()
    files = tuple(bpy.utils.blend_paths(absolute=True, packed=False, local=False))
    arguments, folder, name = arguments_of(scene, what)
    arguments["priority"], arguments["tags"] = priority, tags
    copy = os.path.join(
        tempfile.mkdtemp(prefix="grange-", dir=bpy.app.tempdir or None), "copy.blend"
    )
    with cameras_for_skyboxes(scene, arguments):
        save_copy(copy)
    blend = bpy.data.filepath or os.path.join(os.path.dirname(copy), "untitled.blend")
    return Order(
        number=next(_numbers),
        blend=blend,
        copy=copy,
        name=name,
        folder=folder,
        owner=live.owner(),
        arguments=arguments,
        allow_missing=allow_missing,
        files=files,
    )


def arguments_of(scene: bpy.types.Scene, what: str) -> tuple[dict[str, Any], str, str]:
    """Those of `Farm.submit`, the folder where files go, and the job's name."""
    title = os.path.splitext(os.path.basename(bpy.data.filepath))[0] or "untitled"
    if len(bpy.data.scenes) > 1:
        title = f"{title}: {scene.name}"
    if what == "SHOTS":
        planned = pictures.for_farm(shots.wanted(scene, on_farm=True))
        return {"shots": planned.shots}, planned.folder, f"{title}, shots"
    arguments: dict[str, Any] = {"scene": scene.name}
    if what == "FRAME":
        arguments["frames"] = scene.frame_current
        title = f"{title}, frame {scene.frame_current}"
    return arguments, os.path.dirname(scene.render.frame_path(frame=scene.frame_current)), title


def save_copy(path: str) -> None:
    """Writes what is open to another file, as if it were saved; nothing of it counts as saved."""
    bpy.ops.wm.save_as_mainfile(
        "EXEC_DEFAULT", filepath=path, copy=True, relative_remap=False, check_existing=False
    )


@contextlib.contextmanager
def cameras_for_skyboxes(scene: bpy.types.Scene, arguments: dict[str, Any]) -> Iterator[None]:
    """Lets each shot that looks around have a camera of its own while the copy is written."""
    made: list[bpy.types.Object] = []
    chosen = [shot for shot in scene.grange.shots if shot.enabled]
    try:
        for shot, told in zip(chosen, arguments.get("shots", ()), strict=False):
            if shot.look != "AHEAD":
                target = shot.scene or scene
                made.append(looking.camera_that_follows(shot.camera or target.camera, shot.look))
                target.collection.objects.link(made[-1])
                told["camera"] = made[-1].name
        yield
    finally:
        for one in made:
            lens = one.data
            bpy.data.objects.remove(one)
            bpy.data.cameras.remove(lens)


def count(scene: bpy.types.Scene, what: str) -> int:
    """Pictures that a job would have. Raises `ValueError`."""
    if what == "SHOTS":
        return len(pictures.plan(shots.wanted(scene, on_farm=True)))
    if what == "FRAME":
        return 1
    return len(range(scene.frame_start, scene.frame_end + 1, scene.frame_step))
