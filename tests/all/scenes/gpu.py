"""Scenes for a real GPU. Arguments: the directory to make them in, and the GPU's memory in MiB."""

import math
import os
import sys
from pathlib import Path

import bpy

DIR, MEMORY_MIB = Path(sys.argv[-2]).resolve(), int(sys.argv[-1])
# What Blender takes at most, in each direction.
SIDE_MAX = 65536
# Bytes of a pixel in Cycles' buffer with the passes that `passes` turns on, at least: 40 floats.
PIXEL_BYTES = 160


def new(frames: int) -> bpy.types.Scene:
    """A ball that moves before a camera; Cycles on whatever it is given."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    bpy.ops.mesh.primitive_uv_sphere_add(segments=256, ring_count=128)
    ball = bpy.context.object
    ball.location.x = -1
    ball.keyframe_insert("location", index=0, frame=1)
    ball.location.x = 1
    ball.keyframe_insert("location", index=0, frame=max(frames, 2))
    bpy.ops.object.light_add(type="SUN", rotation=(0.6, 0.3, 0))
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    camera.location, camera.rotation_euler = (0, -7, 2), (math.radians(75), 0, 0)
    scene.collection.objects.link(camera)
    scene.camera = camera
    scene.frame_start, scene.frame_end = 1, frames
    scene.render.engine = "CYCLES"
    scene.render.resolution_x, scene.render.resolution_y = 960, 540
    scene.cycles.samples = 64
    scene.cycles.use_denoising = False
    return scene


def passes(layer: bpy.types.ViewLayer) -> None:
    """So many that each pixel takes what it can."""
    for name in dir(layer):
        if name.startswith("use_pass_") and not name.startswith("use_pass_cryptomatte"):
            setattr(layer, name, True)


def save(name: str) -> None:
    bpy.ops.wm.save_as_mainfile(filepath=str(DIR / name), compress=False)


new(frames=120)
save("ball.blend")

huge = new(frames=1)
passes(huge.view_layers[0])
# One buffer for the whole picture, half as large again as the GPU. Buffers are never moved to RAM,
# as textures are.
side = math.isqrt(MEMORY_MIB * 1024 * 1024 * 3 // 2 // PIXEL_BYTES)
huge.render.resolution_x = huge.render.resolution_y = min(side, SIDE_MAX)
huge.cycles.use_auto_tile = False
huge.cycles.samples = 1
save("huge.blend")

sys.stdout.flush()
# The module may crash on its way out.
os._exit(0)
