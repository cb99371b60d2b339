"""Small scenes for the tests of whole farms. Arguments: the directory to make them in."""

import math
import sys
from pathlib import Path

import bpy

DIR = Path(sys.argv[sys.argv.index("--") + 1]).resolve()


def new(frames: int = 4) -> bpy.types.Scene:
    """A cube that turns, seen by a camera; 64 × 36 pixels, 4 samples."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    bpy.ops.mesh.primitive_cube_add()
    cube = bpy.context.object
    cube.name = "Cube"
    cube.rotation_euler.z = 0.2
    cube.keyframe_insert("rotation_euler", index=2, frame=1)
    cube.rotation_euler.z = 1.7
    cube.keyframe_insert("rotation_euler", index=2, frame=max(frames, 2))
    bpy.ops.object.light_add(type="SUN", rotation=(0.6, 0.3, 0))
    scene.camera = camera("Camera", (0, -7, 2), (math.radians(75), 0, 0))
    scene.frame_start, scene.frame_end = 1, frames
    scene.render.engine = "CYCLES"
    scene.render.resolution_x, scene.render.resolution_y = 64, 36
    scene.render.filepath = "//pictures/turn_####"
    scene.cycles.samples = 4
    scene.cycles.seed = 1
    scene.cycles.use_adaptive_sampling = False
    scene.cycles.use_denoising = False
    return scene


def camera(name: str, location, rotation):
    thing = bpy.data.objects.new(name, bpy.data.cameras.new(name))
    thing.location, thing.rotation_euler = location, rotation
    bpy.context.scene.collection.objects.link(thing)
    return thing


def save(name: str) -> None:
    bpy.ops.wm.save_as_mainfile(filepath=str(DIR / name), compress=False)


def turn() -> None:
    new()
    save("turn.blend")


def light() -> None:
    """Pictures of light as it is, with an open end, larger than a strip of frames shows them."""
    scene = new(frames=2)
    scene.render.resolution_x, scene.render.resolution_y = 320, 180
    scene.render.image_settings.file_format = "OPEN_EXR"
    save("light.blend")


def around() -> None:
    """As many frames as a second of film, and no two of them are the same."""
    new(frames=24)
    save("around.blend")


def slow() -> None:
    """A frame that takes long enough to be interrupted in its middle."""
    scene = new(frames=6)
    scene.render.resolution_x, scene.render.resolution_y = 320, 180
    scene.cycles.samples = 150
    save("slow.blend")


def huge() -> None:
    """A frame that takes more memory than tests leave it."""
    new(frames=1)
    modifier = bpy.data.objects["Cube"].modifiers.new("Finer", "SUBSURF")
    modifier.levels, modifier.render_levels = 0, 11
    save("huge.blend")


def heavy() -> None:
    """Frames that take about 850 MiB, several times what the others take."""
    new(frames=4)
    modifier = bpy.data.objects["Cube"].modifiers.new("Finer", "SUBSURF")
    modifier.levels, modifier.render_levels = 0, 9
    save("heavy.blend")


def skybox() -> None:
    """Six cameras in one place, each looking another way."""
    scene = new()
    quarter = math.pi / 2
    ways = {
        "Front": (quarter, 0, 0),
        "Back": (quarter, 0, math.pi),
        "Left": (quarter, 0, quarter),
        "Right": (quarter, 0, -quarter),
        "Up": (math.pi, 0, 0),
        "Down": (0, 0, 0),
    }
    bpy.data.objects["Camera"].name = "Front"
    for name, rotation in ways.items():
        seen = bpy.data.objects.get(name) or camera(name, (0, 0, 0), rotation)
        seen.location, seen.rotation_euler = (0, -5, 0), rotation
    scene.render.resolution_x = scene.render.resolution_y = 32
    scene.frame_set(3)
    save("skybox.blend")


def passes() -> None:
    """Extra files by a File Output node, two view layers, and stereo pictures."""
    scene = new(frames=2)
    scene.view_layers[0].use_pass_z = True
    scene.view_layers.new("Second")
    scene.render.use_multiview = True
    scene.render.views_format = "STEREO_3D"
    scene.render.image_settings.views_format = "INDIVIDUAL"
    scene.use_nodes = True
    tree = scene.node_tree
    layers = tree.nodes["Render Layers"]
    output = tree.nodes.new("CompositorNodeOutputFile")
    output.base_path = "//passes"
    output.format.file_format = "OPEN_EXR"
    output.file_slots.clear()
    output.file_slots.new("depth_")
    tree.links.new(layers.outputs["Depth"], output.inputs[0])
    save("passes.blend")


def linked() -> None:
    """A scene that needs a library, and through it a texture, and another by an absolute path."""
    (DIR / "textures").mkdir(exist_ok=True)
    for name, color in (("wood", (0.8, 0.3, 0.1, 1)), ("sky", (0.1, 0.3, 0.8, 1))):
        image = bpy.data.images.new(name, 8, 8)
        image.pixels[:] = list(color) * 64
        image.filepath_raw = str(DIR / "textures" / f"{name}.png")
        image.file_format = "PNG"
        image.save()
    new()
    material = textured("Wood", str(DIR / "textures/wood.png"))
    bpy.data.objects["Cube"].data.materials.append(material)
    collection = bpy.data.collections.new("Things")
    bpy.context.scene.collection.children.link(collection)
    collection.objects.link(bpy.data.objects["Cube"])
    (DIR / "library").mkdir(exist_ok=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(DIR / "library/things.blend"))
    bpy.ops.file.make_paths_relative()
    bpy.ops.wm.save_as_mainfile(filepath=str(DIR / "library/things.blend"))
    scene = new(frames=1)
    bpy.data.objects.remove(bpy.data.objects["Cube"])
    save("linked.blend")
    with bpy.data.libraries.load(str(DIR / "library/things.blend"), link=True, relative=True) as (
        there,
        here,
    ):
        here.collections = there.collections
    instance = bpy.data.objects.new("Things", None)
    instance.instance_type = "COLLECTION"
    instance.instance_collection = bpy.data.collections["Things"]
    scene.collection.objects.link(instance)
    bpy.ops.mesh.primitive_plane_add(size=30, location=(0, 8, 0), rotation=(math.pi / 2, 0, 0))
    bpy.context.object.data.materials.append(textured("Sky", str(DIR / "textures/sky.png")))
    save("linked.blend")


def textured(name: str, path: str):
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    nodes = material.node_tree.nodes
    texture = nodes.new("ShaderNodeTexImage")
    texture.image = bpy.data.images.load(path)
    emission = nodes.new("ShaderNodeEmission")
    links = material.node_tree.links
    links.new(texture.outputs["Color"], emission.inputs["Color"])
    links.new(emission.outputs["Emission"], nodes["Material Output"].inputs["Surface"])
    return material


def without_camera() -> None:
    scene = new()
    bpy.data.objects.remove(scene.camera)
    save("no_camera.blend")


def denoised() -> None:
    new().cycles.use_denoising = True
    save("denoised.blend")


def with_side_camera() -> bpy.types.Scene:
    """Two cameras, and pictures of 16 bits, in which small differences show."""
    scene = new()
    camera("Side", (6, -3, 2), (math.radians(75), 0, math.radians(60)))
    scene.render.image_settings.color_depth = "16"
    return scene


def textures() -> None:
    """A packed image, around it all too, and a bump map; and the same denoised."""
    scene = with_side_camera()
    image = bpy.data.images.new("noise", 32, 32)
    image.pixels[:] = [(7 * at % 11) / 10 for at in range(32 * 32 * 4)]
    image.pack()
    material = bpy.data.materials.new("Rough")
    material.use_nodes = True
    tree = material.node_tree
    picture, noise, bump = (
        tree.nodes.new(kind)
        for kind in ("ShaderNodeTexImage", "ShaderNodeTexNoise", "ShaderNodeBump")
    )
    picture.image = image
    surface = tree.nodes["Principled BSDF"]
    tree.links.new(picture.outputs["Color"], surface.inputs["Base Color"])
    tree.links.new(noise.outputs["Fac"], bump.inputs["Height"])
    tree.links.new(bump.outputs["Normal"], surface.inputs["Normal"])
    bpy.data.objects["Cube"].data.materials.append(material)
    scene.world = bpy.data.worlds.new("World")
    scene.world.use_nodes = True
    # A map of where its light comes from takes seconds.
    scene.world.cycles.sampling_method = "NONE"
    sky = scene.world.node_tree.nodes.new("ShaderNodeTexEnvironment")
    sky.image = image
    background = scene.world.node_tree.nodes["Background"]
    scene.world.node_tree.links.new(sky.outputs["Color"], background.inputs["Color"])
    save("textures.blend")
    scene.cycles.use_denoising = True
    save("cleaned.blend")


def motion() -> None:
    """Modifiers, one of them animated, a shape key, a parent that moves, and motion blur."""
    scene = with_side_camera()
    scene.render.use_motion_blur = True
    cube = bpy.data.objects["Cube"]
    cube.shape_key_add(name="Basis")
    key = cube.shape_key_add(name="Pulled")
    key.data[0].co.x += 1.5
    for frame, value in ((1, 0.0), (4, 1.0)):
        key.value = value
        key.keyframe_insert("value", frame=frame)
    cube.modifiers.new("Finer", "SUBSURF").render_levels = 3
    cube.modifiers.new("Wave", "WAVE").height = 0.4
    many = cube.modifiers.new("Many", "ARRAY")
    for frame, count in ((1, 1), (4, 3)):
        many.count = count
        many.keyframe_insert("count", frame=frame)
    carrier = bpy.data.objects.new("Carrier", None)
    scene.collection.objects.link(carrier)
    cube.parent = carrier
    for frame, height in ((1, 0.0), (4, 0.7)):
        carrier.location.z = height
        carrier.keyframe_insert("location", frame=frame)
    save("motion.blend")


def mist() -> None:
    """A cloud of changing density around the cube."""
    with_side_camera()
    bpy.ops.mesh.primitive_cube_add(size=4)
    material = bpy.data.materials.new("Mist")
    material.use_nodes = True
    tree = material.node_tree
    volume = tree.nodes.new("ShaderNodeVolumePrincipled")
    for frame, density in ((1, 0.05), (4, 0.4)):
        volume.inputs["Density"].default_value = density
        volume.inputs["Density"].keyframe_insert("default_value", frame=frame)
    tree.links.new(volume.outputs["Volume"], tree.nodes["Material Output"].inputs["Volume"])
    tree.nodes.remove(tree.nodes["Principled BSDF"])
    bpy.context.object.data.materials.append(material)
    save("mist.blend")


def hair() -> None:
    with_side_camera()
    cube = bpy.data.objects["Cube"]
    cube.modifiers.new("Hair", "PARTICLE_SYSTEM")
    cube.particle_systems[0].settings.type = "HAIR"
    cube.particle_systems[0].settings.count = 40
    save("hair.blend")


def movie() -> None:
    new(frames=1).render.image_settings.file_format = "FFMPEG"
    save("movie.blend")


def script() -> None:
    """A file with a script that runs when it is opened, if it may."""
    new(frames=1)
    text = bpy.data.texts.new("escape.py")
    text.write("import pathlib\npathlib.Path('/tmp/grange-escape').write_text('out')\n")
    text.use_module = True
    save("script.blend")


for make in (
    *(turn, around, slow, huge, heavy, skybox, passes, linked, without_camera, denoised, movie),
    *(light, script, textures, motion, mist, hair),
):
    make()
