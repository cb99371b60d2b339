"""Makes the sample scene: a monkey on a turntable, lit by three lamps, 24 frames.

    blender -b --factory-startup --python-exit-code 1 --python turntable.py -- turntable.blend

Cycles on the CPU, without denoising and adaptive sampling, so that every way of rendering a frame
gives the same pixels and every Blender can render it.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import bpy

FRAMES = 24
SAMPLES = 16
WIDTH, HEIGHT = 320, 180


def material(name: str, color: tuple[float, float, float], metallic: float, roughness: float):
    made = bpy.data.materials.new(name)
    made.use_nodes = True
    shader = made.node_tree.nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = (*color, 1.0)
    shader.inputs["Metallic"].default_value = metallic
    shader.inputs["Roughness"].default_value = roughness
    return made


def shown(material_):
    """The object that was just added, in a material."""
    thing = bpy.context.object
    thing.data.materials.append(material_)
    return thing


def build() -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.mesh.primitive_plane_add(size=40)
    shown(material("Floor", (0.05, 0.06, 0.08), 0.0, 0.35))
    bpy.ops.mesh.primitive_cylinder_add(radius=1.6, depth=0.3, location=(0, 0, 0.15), vertices=96)
    plate = shown(material("Plate", (0.9, 0.9, 0.92), 1.0, 0.15))
    bpy.ops.mesh.primitive_monkey_add(location=(0, 0, 1.0), rotation=(-0.3, 0, 0))
    monkey = shown(material("Copper", (0.85, 0.35, 0.14), 1.0, 0.25))
    subdivision = monkey.modifiers.new("Subdivision", "SUBSURF")
    subdivision.levels = subdivision.render_levels = 3
    bpy.ops.object.shade_smooth()
    monkey.parent = plate
    turn(plate)
    lamp("Key", (4, -4, 5), 700, 2.0, (1.0, 0.85, 0.7))
    lamp("Fill", (-5, -2, 3), 300, 3.0, (0.5, 0.7, 1.0))
    lamp("Rim", (0, 5, 4), 600, 1.0, (1.0, 0.95, 0.9))
    camera()
    settings(bpy.context.scene)


def turn(plate) -> None:
    """One turn in all frames, at constant speed, so that the last leads to the first."""
    plate.rotation_euler.z = 0
    plate.keyframe_insert("rotation_euler", index=2, frame=1)
    plate.rotation_euler.z = 2 * math.pi
    plate.keyframe_insert("rotation_euler", index=2, frame=FRAMES + 1)
    action = plate.animation_data.action
    # Blender 4.4 put curves into layers.
    curves = getattr(action, "fcurves", None) or action.layers[0].strips[0].channelbags[0].fcurves
    for point in curves[0].keyframe_points:
        point.interpolation = "LINEAR"


def lamp(name: str, location, energy: float, size: float, color) -> None:
    data = bpy.data.lights.new(name, "AREA")
    data.energy, data.size, data.color = energy, size, color
    thing = bpy.data.objects.new(name, data)
    thing.location = location
    look_at(thing, (0, 0, 1.0))
    bpy.context.scene.collection.objects.link(thing)


def camera() -> None:
    thing = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    thing.location = (0, -8.5, 3.4)
    thing.data.lens = 62
    look_at(thing, (0, 0, 1.0))
    bpy.context.scene.collection.objects.link(thing)
    bpy.context.scene.camera = thing


def look_at(thing, point) -> None:
    from mathutils import Vector

    direction = Vector(point) - thing.location
    thing.rotation_euler = direction.to_track_quat("-Z", "Y").to_euler()


def settings(scene) -> None:
    world = bpy.data.worlds.new("World")
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.02, 0.02, 0.03, 1.0)
    scene.world = world
    scene.frame_start, scene.frame_end = 1, FRAMES
    scene.render.engine = "CYCLES"
    scene.render.resolution_x, scene.render.resolution_y = WIDTH, HEIGHT
    scene.render.filepath = "//turntable_####"
    scene.render.image_settings.file_format = "PNG"
    scene.cycles.device = "CPU"
    scene.cycles.samples = SAMPLES
    scene.cycles.use_adaptive_sampling = False
    scene.cycles.use_denoising = False
    scene.cycles.seed = 7


if __name__ == "__main__":
    build()
    target = Path(sys.argv[sys.argv.index("--") + 1]).resolve()
    bpy.ops.wm.save_as_mainfile(filepath=str(target), compress=True)
