"""Making a scene show what a shot asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import bpy

from worker import host, naming
from worker.link import Refused
from worker.opening import listed
from worker.overrides import Overrides, pick

FINE_PROGRESS_SAMPLES = 16
"""Cycles reports adaptive samples in steps of 16; fewer need no fine progress."""

TILE_SIZE = 256
"""Pixels, in both directions."""


@dataclass
class Prepared:
    """A scene that is ready to render one shot."""

    scene: bpy.types.Scene
    animation: bool
    warnings: list[str] = field(default_factory=list)


def prepare(order: dict[str, Any], threads: int, overrides: Overrides) -> Prepared:
    """Sets everything that the order names; what it does not name stays as the file has it."""
    scene = find_scene(order["scene"])
    prepared = Prepared(scene, animation=order["numbered"])
    set_view_layer(scene, order["view_layer"], overrides)
    set_camera(scene, order["camera"], overrides)
    set_resolution(scene, order["resolution"], overrides)
    prepared.warnings += set_samples(scene, order["samples"], overrides)
    prepared.warnings += set_denoiser(scene, order["allow_no_denoiser"], overrides)
    if scene.render.engine == "CYCLES":
        set_device(scene, order["device"], order["device_pci"], overrides)
        if order["fine_progress"]:
            set_fine_progress(scene, overrides)
        if order["tiles"]:
            set_tiles(scene, overrides)
    threads = order["threads"] or threads
    if threads:
        overrides.set(scene.render, "threads_mode", "FIXED")
        overrides.set(scene.render, "threads", threads)
    set_frame(prepared, order, overrides)
    return prepared


def find_scene(name: str | None) -> bpy.types.Scene:
    if name is None:
        return bpy.context.scene
    scene = pick(bpy.data.scenes, name)
    if scene is None:
        raise Refused(
            "scene",
            f"the file has no scene `{name}`; it has {listed(one.name for one in bpy.data.scenes)}",
        )
    return scene


def set_view_layer(scene: bpy.types.Scene, name: str | None, overrides: Overrides) -> None:
    """Only that layer renders. The render operator has an argument for it, and ignores it."""
    if name is None:
        return
    if pick(scene.view_layers, name) is None:
        raise Refused(
            "scene",
            f"scene `{scene.name}` has no view layer `{name}`; it has "
            f"{listed(one.name for one in scene.view_layers)}",
        )
    for layer in scene.view_layers:
        overrides.set(layer, "use", layer.name == name)


def set_camera(scene: bpy.types.Scene, name: str | None, overrides: Overrides) -> None:
    if name is None:
        return
    camera = pick(scene.objects, name)
    if camera is None or camera.type != "CAMERA":
        cameras = [one.name for one in scene.objects if one.type == "CAMERA"]
        has = f"it has {listed(cameras)}" if cameras else "it has none at all"
        raise Refused("scene", f"scene `{scene.name}` has no camera `{name}`; {has}")
    overrides.set(scene, "camera", camera)
    # A marker with a camera would switch to that one when its frame comes.
    for marker in scene.timeline_markers:
        if marker.camera is not None:
            overrides.set(marker, "camera", None)


def set_resolution(scene: bpy.types.Scene, size: list[int] | None, overrides: Overrides) -> None:
    if size is not None:
        overrides.set(scene.render, "resolution_x", size[0])
        overrides.set(scene.render, "resolution_y", size[1])
        overrides.set(scene.render, "resolution_percentage", 100)


def set_samples(scene: bpy.types.Scene, samples: int | None, overrides: Overrides) -> list[str]:
    if samples is None:
        return []
    engine = scene.render.engine
    if engine == "CYCLES":
        overrides.set(scene.cycles, "samples", samples)
        overrides.set(scene.cycles, "use_layer_samples", "IGNORE")
    elif engine.startswith("BLENDER_EEVEE"):
        overrides.set(scene.eevee, "taa_render_samples", samples)
    else:
        return [f"the shot asks for {samples} samples, which {engine} does not know"]
    return []


def set_denoiser(scene: bpy.types.Scene, allow_none: bool, overrides: Overrides) -> list[str]:
    """A Blender without the denoiser stops a render, or passes noise on from a Denoise node."""
    if host.has_denoiser():
        return []
    cycles = wants_cycles_denoiser(scene)
    if not cycles and not has_denoise_node(scene):
        return []
    if not allow_none:
        raise Refused(
            "host",
            f"the scene is denoised, and this Blender {bpy.app.version_string} was built "
            "without a denoiser: render it with one from blender.org, or allow noise",
        )
    if cycles:
        overrides.set(scene.cycles, "use_denoising", False)
    return [f"not denoised: Blender {bpy.app.version_string} was built without a denoiser"]


def wants_cycles_denoiser(scene: bpy.types.Scene) -> bool:
    if scene.render.engine != "CYCLES" or not scene.cycles.use_denoising:
        return False
    return any(layer.use and layer.cycles.use_denoising for layer in scene.view_layers)


def has_denoise_node(scene: bpy.types.Scene) -> bool:
    return scene.render.use_compositing and any(
        node.bl_idname == "CompositorNodeDenoise" and not node.mute
        for node in naming.compositing_nodes(scene)
    )


def set_device(scene: bpy.types.Scene, device: str, pci: str | None, overrides: Overrides) -> None:
    """Exactly the device that the render was given, or a refusal: never another one."""
    if device == "CPU":
        host.use_cpu(overrides)
        overrides.set(scene.cycles, "device", "CPU")
        return
    host.use_gpu(device, pci, overrides)
    overrides.set(scene.cycles, "device", "GPU")
    used = host.device_in_use(scene)
    if used is None or used["kind"] != device or len(used["ids"]) != 1:
        instead = listed(used["ids"]) if used else "none"
        raise Refused(
            "host", f"the render is to use one {device} device, but Cycles would use {instead}"
        )


def set_fine_progress(scene: bpy.types.Scene, overrides: Overrides) -> None:
    """Adaptive sampling that never stops early: the same picture, reported every 16 samples.
    An artist's own adaptive sampling reports often already, and stays."""
    cycles = scene.cycles
    if not cycles.use_adaptive_sampling and cycles.samples > FINE_PROGRESS_SAMPLES:
        overrides.set(cycles, "use_adaptive_sampling", True)
        overrides.set(cycles, "adaptive_min_samples", 1)
        overrides.set(cycles, "adaptive_threshold", 1e-7)


def set_tiles(scene: bpy.types.Scene, overrides: Overrides) -> None:
    """Tiles so small that a render stops soon. A denoised scene stays as it is: the denoiser sees
    slightly other pixels of a tiled picture, in the last bits of their floats."""
    if not wants_cycles_denoiser(scene):
        overrides.set(scene.cycles, "use_auto_tile", True)
        overrides.set(scene.cycles, "tile_size", TILE_SIZE)


def set_frame(prepared: Prepared, order: dict[str, Any], overrides: Overrides) -> None:
    """Chooses the way to render that numbers the output as asked."""
    scene, frame, pattern = prepared.scene, order["frame"], order["pattern"]
    if prepared.animation and frame < scene.bl_rna.properties["frame_start"].hard_min:
        prepared.animation = False
        pattern = naming.expand(pattern, frame)
    prepared.warnings += naming.name_picture(scene, order["scratch"], pattern, overrides)
    naming.redirect_file_outputs(scene, order["scratch"], overrides)
    if prepared.animation:
        # Each pushes the other along.
        overrides.remember(scene, "frame_start", "frame_end")
        overrides.set(scene, "frame_start", frame)
        overrides.set(scene, "frame_end", frame)
    else:
        overrides.set(scene, "frame_current", frame)
        overrides.set(scene, "frame_subframe", 0.0)
