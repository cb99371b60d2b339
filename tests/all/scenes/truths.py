"""Scenes whose ground truths can be computed by hand. Arguments: the directory to make them in.

The camera of frames 1 to 20 is at (0, -10, 0) and looks along +y, so that a picture of 96 × 64
pixels with a focal length of 96 pixels shows 9.6 pixels of each unit at y = 0. Until frame 40 it
moves to the right, half a unit a frame; at frame 50 it looks from elsewhere.
"""

import math
import sys
from pathlib import Path

import bmesh
import bpy

DIR = Path(sys.argv[sys.argv.index("--") + 1]).resolve()


def new() -> bpy.types.Scene:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.render.resolution_x, scene.render.resolution_y = 96, 64
    scene.render.dither_intensity = 0
    scene.render.image_settings.file_format = "PNG"
    scene.cycles.samples = 4
    scene.cycles.seed = 1
    scene.cycles.max_bounces = 0
    scene.cycles.use_adaptive_sampling = False
    scene.cycles.use_denoising = False
    scene.camera = camera()
    square("Facing", (-3.5, 0, 1.8))
    square("Tilted", (-0.9, 0, 1.8), slope=0.75)
    ball()
    mover()
    for name, x in [("Cube.A", -0.5), ("Cube.B", 1.2), ("Cube.C", 3.1)]:
        cube(name, (x, 0, -2), 0.5)
    # Little things at known places, to be found in the picture.
    cube("Mark", (0.3, 1, 0.1), 0.08)
    # Two objects of one material.
    bpy.data.objects["Cube.C"].data.materials[0] = bpy.data.materials["Cube.A"]
    sun = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    sun.rotation_euler = (1, 0.2, 0)
    scene.collection.objects.link(sun)
    return scene


def camera() -> bpy.types.Object:
    thing = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    thing.data.sensor_width = thing.data.lens = 36
    thing.scale = (2, 2, 2)
    bpy.context.scene.collection.objects.link(thing)
    ahead = (math.pi / 2, 0, 0)
    places = [
        *((1, (0, -10, 0), ahead), (20, (0, -10, 0), ahead), (40, (10, -10, 0), ahead)),
        (50, (3, -9, 3), (1.25, 0.1, 0.3)),
    ]
    for frame, location, rotation in places:
        thing.location, thing.rotation_euler = location, rotation
        thing.keyframe_insert("location", frame=frame)
        thing.keyframe_insert("rotation_euler", frame=frame)
    straighten(thing)
    return thing


def mover() -> None:
    """Between frames 11, 12 and 13 it moves by known steps, and then no more."""
    thing = square("Mover", (-3.5, 0, -1.8))
    for frame, x, z in [(11, -3.5, -1.8), (12, -3, -1.55), (13, -2.75, -1.05)]:
        thing.location.x, thing.location.z = x, z
        thing.keyframe_insert("location", frame=frame)
    straighten(thing)


def straighten(thing: bpy.types.Object) -> None:
    for curve in thing.animation_data.action.fcurves:
        for key in curve.keyframe_points:
            key.interpolation = "LINEAR"


def square(name: str, location, slope: float = 0) -> bpy.types.Object:
    """Two by two units across the view; `slope` is how much farther it is per unit to the right."""
    corners = [(x, slope * x, z) for x, z in [(-1, -1), (1, -1), (1, 1), (-1, 1)]]
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(corners, [], [(0, 1, 2, 3)])
    return placed(name, mesh, location)


def cube(name: str, location, half: float) -> None:
    made = bmesh.new()
    bmesh.ops.create_cube(made, size=2 * half)
    placed(name, taken(name, made), location)


def ball() -> None:
    """Of radius 1.2, so fine that its normals are a sphere's."""
    made = bmesh.new()
    bmesh.ops.create_uvsphere(made, u_segments=192, v_segments=96, radius=1.2)
    for face in made.faces:
        face.smooth = True
    placed("Ball", taken("Ball", made), (2.8, 0, 1.4))


def taken(name: str, made: bmesh.types.BMesh) -> bpy.types.Mesh:
    mesh = bpy.data.meshes.new(name)
    made.to_mesh(mesh)
    made.free()
    return mesh


def placed(name: str, mesh: bpy.types.Mesh, location) -> bpy.types.Object:
    mesh.materials.append(flat(name))
    thing = bpy.data.objects.new(name, mesh)
    thing.location = location
    bpy.context.scene.collection.objects.link(thing)
    return thing


def flat(name: str) -> bpy.types.Material:
    """Diffuse and nothing else; the facing square is glossy and nothing else."""
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    nodes.clear()
    kind = "ShaderNodeBsdfGlossy" if name == "Facing" else "ShaderNodeBsdfDiffuse"
    shader, output = nodes.new(kind), nodes.new("ShaderNodeOutputMaterial")
    shader.inputs["Color"].default_value = (0.2, 0.4, 0.6, 1)
    shader.inputs["Roughness"].default_value = 0.8 if name == "Facing" else 0
    links.new(shader.outputs[0], output.inputs["Surface"])
    return material


def composited() -> None:
    """The same, but that its colours are turned around afterwards."""
    scene = new()
    scene.render.dither_intensity = 1
    scene.use_nodes = True
    nodes, links = scene.node_tree.nodes, scene.node_tree.links
    nodes.clear()
    layers, invert = nodes.new("CompositorNodeRLayers"), nodes.new("CompositorNodeInvert")
    composite = nodes.new("CompositorNodeComposite")
    links.new(layers.outputs["Image"], invert.inputs["Color"])
    links.new(invert.outputs[0], composite.inputs["Image"])
    save("composited.blend")


def save(name: str) -> None:
    bpy.ops.wm.save_as_mainfile(filepath=str(DIR / name), compress=False)


new()
save("truths.blend")
# One sample, which goes through the middle of its pixel.
scene = new()
scene.cycles.samples = 1
save("sharp.blend")
new().render.use_motion_blur = True
save("blurred.blend")
scene = new()
scene.render.engine, scene.eevee.taa_render_samples = "BLENDER_EEVEE", 1
save("eevee.blend")
new().render.engine = "BLENDER_WORKBENCH"
save("workbench.blend")
composited()
