"""Ground truths: what is rendered with every frame beside its picture.

Operations here turn passes of the view layer on. After a frame one file with all its passes is
written to `truths/passes.exr` in the frame's scratch directory, and the answer says what is to be
made of it; whoever drives this Blender makes the files, while the next frame renders. Units, axes
and signs are those of `crates/blender/src/truths`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import bpy

from worker import naming
from worker.link import Refused
from worker.opening import listed
from worker.overrides import Overrides
from worker.session import combined
from worker.session.naming import NAMERS, ending
from worker.session.state import Session, operation

PASSES = "truths/passes.exr"
"""Below a frame's scratch directory. Never an output itself."""

CODECS = ("NONE", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24")
"""Compressions of EXR files that can be asked for. PXR24 alone loses something: floats keep 24 of
their bits."""

ID_MAX = 32_767
"""What an object's or a material's pass index goes to."""

SURFACES = {
    *("MESH", "CURVE", "SURFACE", "META", "FONT"),
    *("CURVES", "POINTCLOUD", "VOLUME", "HAIR", "GREASEPENCIL"),
}
"""Types of objects that can be seen."""


@dataclass(frozen=True)
class Kind:
    """One kind of ground truth."""

    folder: str
    """Of its files."""
    passes: tuple[str, ...] = ()
    """Of the view layer, which have to be on."""
    only_cycles: bool = False
    """No other engine makes its passes."""


KINDS = {
    "depth": Kind("depths", ("z",)),
    "normal": Kind("normals", ("normal",)),
    "flow": Kind("flows", ("vector",)),
    "segmentation": Kind("segmentations", ("object_index",), only_cycles=True),
    "material": Kind("materials", ("material_index",), only_cycles=True),
    "diffuse": Kind("diffuses", ("diffuse_color",)),
    "specular": Kind("speculars", ("glossy_direct", "glossy_indirect", "glossy_color")),
    "points": Kind("points", ("position",)),
    "composite": Kind("composites"),
}


@operation
def include_depths(session: Session, debug: bool = False, codec: str = "ZIP") -> None:
    """Distances along the optical axis, in scene units; infinite where nothing is."""
    include(session, "depth", debug, codec)


@operation
def include_normals(
    session: Session, space: str = "camera", debug: bool = False, codec: str = "ZIP"
) -> None:
    """Unit normals of the surfaces, in the space of the `camera` (x right, y up, z towards it) or
    of the `world`; zero where nothing is."""
    one_of("space", space, ("camera", "world"))
    include(session, "normal", debug, codec, space=space)


@operation
def include_flows(
    session: Session, direction: str = "both", debug: bool = False, codec: str = "ZIP"
) -> None:
    """How far every point is from here in the next frame (`forward`), in the previous one
    (`backward`), or `both`: in pixels, x to the right, y down."""
    one_of("direction", direction, ("forward", "backward", "both"))
    include(session, "flow", debug, codec, direction=direction)


@operation
def include_segmentations(
    session: Session,
    debug: bool = False,
    codec: str = "ZIP",
    ids: Mapping[str, int] | None = None,
) -> dict[int, str]:
    """Which object every pixel shows, by the numbers that are returned with their names; 0 where
    nothing is. With `ids` only the objects that it names have a number, and that one; objects may
    share one, and then their names are joined by commas.

    Without, every object has its own, from 1 on in the order of their names. What instances an
    object shows the object's number: copies that an empty makes of a collection, particles.
    Objects that come later have none until this is called again.
    """
    include(session, "segmentation", debug, codec)
    return number_all("object", visible_objects(), ids)


@operation
def include_materials(session: Session, debug: bool = False, codec: str = "ZIP") -> dict[int, str]:
    """Which material every pixel shows, by the numbers that are returned with their names, from 1
    on in the order of the names; 0 where nothing is, or an object without a material."""
    include(session, "material", debug, codec)
    return number_all("material", list(bpy.data.materials), None)


@operation
def include_diffuses(session: Session, debug: bool = False, codec: str = "ZIP") -> None:
    """Albedo: the colour of the diffuse part of the surfaces, unlit, scene-linear."""
    include(session, "diffuse", debug, codec)


@operation
def include_speculars(session: Session, debug: bool = False, codec: str = "ZIP") -> None:
    """The light that glossy parts of the surfaces reflect, direct and indirect, times their
    colour, scene-linear."""
    include(session, "specular", debug, codec)


@operation
def include_points(session: Session, debug: bool = False, codec: str = "ZIP") -> None:
    """Where in the world what every pixel shows is, in scene units; zero where nothing is."""
    include(session, "points", debug, codec)


@operation
def include_composites(session: Session) -> None:
    """The picture as the scene composites it, as `composites/composite_N`; `frames/frame_N` is
    what it was before that. Dithering is off from then on, because it would differ."""
    scene = session.scene
    if not composites(scene):
        raise ValueError(
            f"scene `{scene.name}` does not composite: a frame is its composite already"
        )
    refuse_format(scene)
    if "composite" not in session.truths:
        session.truths["composite"] = {"dither": scene.render.dither_intensity}
        scene.render.dither_intensity = 0


@operation
def exclude(session: Session, kind: str) -> None:
    """Frames come without that kind of ground truth again: `depths`, `normals` …"""
    name = next((name for name, one in KINDS.items() if kind in (name, one.folder)), None)
    if name is None:
        one_of("kind", kind, [one.folder for one in KINDS.values()])
        return
    options = session.truths.pop(name, {})
    layer = next(
        (one for one in session.scene.view_layers if one.name == options.get("layer")), None
    )
    for turned_on in options.get("turned_on", ()):
        if layer is not None:
            setattr(layer, turned_on, False)
    if "dither" in options:
        session.scene.render.dither_intensity = options["dither"]


@operation
def clear_truths(session: Session) -> None:
    """Frames come without any ground truth again."""
    for kind in list(session.truths):
        exclude(session, kind)


def include(session: Session, kind: str, debug: bool, codec: str, **options: Any) -> None:
    """Notes what is asked for, and turns on the passes that it needs."""
    one_of("codec", codec, CODECS)
    refuse_scene(session.scene, kind)
    exclude(session, kind)
    layer = rendered_layer(session.scene)
    names = [f"use_pass_{one}" for one in KINDS[kind].passes]
    turned_on = [name for name in names if not getattr(layer, name)]
    for name in turned_on:
        setattr(layer, name, True)
    session.truths[kind] = {
        "debug": bool(debug),
        "codec": codec,
        "layer": layer.name,
        "turned_on": turned_on,
        **options,
    }


def refuse_scene(scene: bpy.types.Scene, kind: str) -> None:
    """A `ValueError` if the scene, as it is set, cannot give that kind."""
    engine, folder = scene.render.engine, KINDS[kind].folder
    cycles = engine == "CYCLES"
    if KINDS[kind].only_cycles and not cycles:
        raise ValueError(f"{folder} need Cycles, and scene `{scene.name}` renders with {engine}")
    if not cycles and not engine.startswith("BLENDER_EEVEE"):
        raise ValueError(
            f"{folder} need Cycles or EEVEE, and scene `{scene.name}` renders with {engine}"
        )
    if not cycles and kind in ("flow", "points") and bpy.app.version < (4, 2):
        raise ValueError(f"{folder} need Cycles: EEVEE of Blender before 4.2 has no pass for them")
    if kind == "flow" and scene.render.use_motion_blur:
        raise ValueError(
            f"flows need motion blur off, and scene `{scene.name}` has it on: turn it off "
            "first, with use_motion_blur(False)"
        )
    if scene.render.use_multiview:
        raise ValueError(
            f"scene `{scene.name}` renders in stereo, of which no {folder} are made: turn "
            "stereoscopy off"
        )


def refuse_format(scene: bpy.types.Scene) -> None:
    if scene.render.image_settings.file_format == "OPEN_EXR_MULTILAYER":
        raise ValueError(
            f"scene `{scene.name}` writes multilayer EXR, which has the picture before and after "
            "compositing in it already: choose another format for composites"
        )


def check(session: Session) -> None:
    """Before a frame: refuses it if the scene was changed so that it cannot have what it is to
    come with."""
    scene = session.scene
    try:
        for kind in session.truths:
            if kind == "composite":
                refuse_format(scene)
            else:
                refuse_scene(scene, kind)
    except ValueError as error:
        raise Refused("scene", str(error)) from None


def rendered_layer(scene: bpy.types.Scene) -> bpy.types.ViewLayer:
    """The first view layer that renders: ground truths are of that one."""
    for layer in scene.view_layers:
        if layer.use:
            return layer
    raise ValueError(f"scene `{scene.name}` renders none of its view layers")


def visible_objects() -> list[bpy.types.Object]:
    return [one for one in bpy.data.objects if one.type in SURFACES]


def number_all(what: str, things: list[Any], ids: Mapping[str, int] | None) -> dict[int, str]:
    """Gives every thing its number, and says which name each number has."""
    named = dict(unique_names(things))
    if ids is None:
        if len(named) > ID_MAX:
            raise ValueError(
                f"the file has {len(named)} {what}s, and Blender can number {ID_MAX}: number those "
                "that matter, with ids"
            )
        ids = {name: number for number, name in enumerate(sorted(named), start=1)}
    for name, number in ids.items():
        if name not in named:
            raise ValueError(
                f"there is no {what} `{name}` that can be seen; there are {some(named)}"
            )
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= ID_MAX:
            raise ValueError(f"`{name}` cannot have number {number!r}: give one of 0 to {ID_MAX}")
    for name, thing in named.items():
        thing.pass_index = ids.get(name, 0)
    numbered: dict[int, list[str]] = {}
    for name, number in ids.items():
        numbered.setdefault(number, []).append(name)
    return {number: ", ".join(names) for number, names in sorted(numbered.items()) if number}


def unique_names(things: list[Any]) -> Iterator[tuple[str, Any]]:
    """By name; things of libraries that are called like another by their full name."""
    taken = {one.name for one in things if one.library is None}
    for one in things:
        name = one.name if one.library is None or one.name not in taken else one.name_full
        taken.add(name)
        yield name, one


def some(names: Mapping[str, Any]) -> str:
    return listed(sorted(names)[:20]) + (" and more" if len(names) > 20 else "")


def one_of(what: str, given: Any, known: Any) -> None:
    if given not in known:
        raise ValueError(f"{what} {given!r} is not known: choose {', '.join(known)}")


def composites(scene: bpy.types.Scene) -> bool:
    return scene.render.use_compositing and naming.compositing_tree(scene) is not None


def frame_files(session: Session, number: str) -> dict[str, str]:
    """Paths of a frame's ground truths: `depth_file_path` and the like, and `depth_debug_path`
    where there is a picture for people. `number` is how the frame is called: `000012`."""
    files: dict[str, str] = {}
    for kind, options in session.truths.items():
        folder = KINDS[kind].folder
        if kind == "composite":
            extension = ending(session.scene)
            files["composite_file_path"] = f"{folder}/composite_{number}{extension}"
            continue
        files[f"{kind}_file_path"] = f"{folder}/{kind}_{number}.exr"
        if options["debug"]:
            files[f"{kind}_debug_path"] = f"{folder}/debug_{kind}_{number}.png"
    return files


NAMERS.append(frame_files)


def make(session: Session, order: dict[str, Any]) -> dict[str, Any]:
    """After a frame: writes its passes, and says what is to be made of them."""
    kinds = [kind for kind in session.truths if kind != "composite"]
    if not session.truths:
        return {}
    scene, files = session.scene, frame_files(session, order["session"]["number"])
    passes = os.path.join(order["scratch"], PASSES)
    write_passes(scene, passes)
    if "composite" in session.truths:
        part_composite(scene, order, passes, files["composite_file_path"])
    truths = []
    for kind in kinds:
        options = session.truths[kind]
        truth = {
            "kind": kind,
            "file": files[f"{kind}_file_path"],
            "debug": files.get(f"{kind}_debug_path"),
            "codec": options["codec"],
            "layer": options["layer"],
        }
        truths.append({**truth, **parameters(session, kind, options)})
    paths = {name: path for name, path in files.items() if name.endswith("_file_path")}
    return {"truths": truths, **paths}


def parameters(session: Session, kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """What making the file needs to know besides the passes."""
    if kind == "depth" and session.scene.render.engine != "CYCLES":
        # EEVEE says where nothing is by a distance that is beyond what the camera sees.
        return {"far": session.camera.data.clip_end}
    if kind == "flow":
        return {"direction": options["direction"]}
    if kind == "normal" and options["space"] == "camera":
        rotation = evaluated(session.camera).matrix_world.to_quaternion().to_matrix()
        return {"rotation": [list(row) for row in rotation.transposed()]}
    return {}


def evaluated(one: bpy.types.Object) -> bpy.types.Object:
    """As it is in the current frame, with all that moves it."""
    return one.evaluated_get(bpy.context.evaluated_depsgraph_get())


def write_passes(scene: bpy.types.Scene, path: str) -> None:
    """All passes of the picture that was rendered last, as floats of 32 bits, uncompressed."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    settings, changed = scene.render.image_settings, Overrides()
    changed.remember(settings, "color_mode", "color_depth", "exr_codec", "file_format")
    try:
        if hasattr(settings, "media_type"):
            changed.set(settings, "media_type", "MULTI_LAYER_IMAGE")
        settings.file_format = "OPEN_EXR_MULTILAYER"
        settings.color_depth = "32"
        settings.exr_codec = "NONE"
        if hasattr(settings, "use_exr_interleave"):
            changed.set(settings, "use_exr_interleave", True)
        bpy.data.images["Render Result"].save_render(path, scene=scene)
    finally:
        changed.restore()


def part_composite(
    scene: bpy.types.Scene, order: dict[str, Any], passes: str, composite: str
) -> None:
    """The picture that was written is the composite: it goes where that belongs, and the picture
    before compositing takes its place."""
    folder, _ = os.path.split(os.path.join(order["scratch"], naming.MAIN, order["pattern"]))
    pictures = os.listdir(folder)
    if len(pictures) != 1:
        raise Refused(
            "scene", f"the frame has {len(pictures)} pictures, of which no composite is made"
        )
    picture = os.path.join(folder, pictures[0])
    target = os.path.join(order["scratch"], naming.EXTRA, composite)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.move(picture, target)
    linear = os.path.join(os.path.dirname(passes), "combined.exr")
    combined.extract(passes, linear, rendered_layer(scene).name)
    image = bpy.data.images.load(linear)
    try:
        image.save_render(picture, scene=scene)
    finally:
        bpy.data.images.remove(image)
        os.remove(linear)
