"""A shot that names other files in every way Blender knows.

Every step also says what a tracer has to find. Kinds are the names of `LinkKind`'s variants.
"""

import os

import bpy
import disk
from disk import VERSION, path, png, touch, wav

SHOT = "shots/sh 01/Schuß 01.blend"


class Expected:
    """What a tracer has to find, and what Blender names although no render needs it."""

    def __init__(self) -> None:
        self.files: list = []
        self.missing: list = []
        self.not_needed: list = []

    def file(self, kind: str, *names: str) -> None:
        self.files += [[path(name), kind] for name in names]

    def lack(self, kind: str, name: str, problem: str = "Absent") -> None:
        is_meaningless = problem in ("WindowsPath", "NoDirectory")
        self.missing.append([name if is_meaningless else path(name), kind, problem])

    def report(self, shot: str) -> dict:
        """With what Blender itself says of the file."""
        disk.reopen(shot)
        reported = bpy.utils.blend_paths(absolute=True, packed=False, local=False)
        return {
            "shot": path(shot),
            "files": self.files,
            "missing": self.missing,
            "not_needed": self.not_needed,
            "reported": [os.path.normpath(name) for name in reported if name],
        }


def make() -> list:
    return [shot(), packed_libraries(), ring()]


def shot() -> dict:
    expected = Expected()
    library(expected)
    disk.new_file()
    disk.save(SHOT)
    expected.file("Blend", SHOT)
    for step in [images, views, clips_sounds_fonts, volumes_and_caches, shaders, modifiers]:
        step(expected)
    for step in [physics, bakes, imports, sequencer, linked, paths_of_elsewhere]:
        step(expected)
    disk.save(SHOT)
    return expected.report(SHOT)


def packed_libraries() -> dict:
    """A shot that carries its libraries in itself; their textures stay outside."""
    expected = Expected()
    disk.new_file()
    disk.save("shots/carries.blend")
    [heroes] = disk.link(path("lib/chars.blend"), collections=["Heroes"])
    bpy.context.scene.collection.children.link(heroes)
    bpy.ops.file.pack_libraries()
    disk.save("shots/carries.blend", compress=True)
    expected.file("Blend", "shots/carries.blend")
    expected.file("Image", "lib/materials/tex/skin.png", "lib/tex/shirt.png")
    return expected.report("shots/carries.blend")


def ring() -> dict:
    """Two libraries that use each other."""
    expected = Expected()
    for name, other in [("left", None), ("right", "left"), ("left", "right")]:
        disk.new_file()
        png(f"ring/{name}.png")
        textured(f"{name} paint", f"//{name}.png")
        group = bpy.data.collections.new(name)
        group.use_fake_user = True
        thing = disk.mesh_object(f"{name} thing")
        bpy.context.scene.collection.objects.unlink(thing)
        group.objects.link(thing)
        if other:
            [paint] = disk.link(path(f"ring/{other}.blend"), materials=[f"{other} paint"])
            thing.data.materials.append(paint)
        # Blender does not save over a library that it has open.
        os.replace(disk.save("ring/new.blend"), path(f"ring/{name}.blend"))
    disk.new_file()
    for name in ["left", "right"]:
        [group] = disk.link(path(f"ring/{name}.blend"), collections=[name])
        bpy.context.scene.collection.children.link(group)
    disk.save("shots/ring.blend")
    expected.file("Blend", "shots/ring.blend")
    expected.file("Library", "ring/left.blend", "ring/right.blend")
    expected.file("Image", "ring/left.png", "ring/right.png")
    return expected.report("shots/ring.blend")


def image(name: str, filepath: str, source: str = "FILE", **settings):
    """An image datablock whose file need not be there."""
    made = bpy.data.images.new(name, 1, 1)
    made.source = source
    made.filepath = filepath
    made.use_fake_user = True
    for key, value in settings.items():
        setattr(made, key, value)
    return made


def textured(name: str, filepath: str):
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    material.use_fake_user = True
    node = material.node_tree.nodes.new("ShaderNodeTexImage")
    node.image = image(f"{name} texture", filepath)
    return material


def library(expected: Expected) -> None:
    """A library that uses another one, each with textures beside itself."""
    disk.new_file()
    png("lib/materials/tex/skin.png")
    png("lib/materials/tex/not linked.png")
    textured("Skin", "//tex/skin.png")
    textured("Unlinked", "//tex/not linked.png")
    disk.save("lib/materials/mats.blend")

    disk.new_file()
    disk.save("lib/chars.blend")
    png("lib/tex/shirt.png")
    png("lib/tex/not linked.png")
    textured("Unlinked", "//tex/not linked.png")
    [skin] = disk.link(path("lib/materials/mats.blend"), materials=["Skin"])
    hero = disk.mesh_object("Hero")
    hero.data.materials.append(skin)
    hero.data.materials.append(textured("Shirt", "//tex/shirt.png"))
    group = bpy.data.collections.new("Heroes")
    bpy.context.scene.collection.objects.unlink(hero)
    group.objects.link(hero)
    group.use_fake_user = True
    disk.mesh_object("Prop").data.materials.append(textured("Wood", "//tex/wood gone.png"))
    disk.save("lib/chars.blend", compress=True)

    disk.new_file()
    cube = disk.mesh_object("Box")
    png("lib/box.png")
    cube.data.materials.append(textured("Box", "//box.png"))
    disk.save("lib/override.blend")
    for name in ["Lost", "Broken"]:
        disk.mesh_object(name)
        disk.save(f"lib/{name.lower()}.blend")
    expected.file("Library", "lib/chars.blend", "lib/materials/mats.blend", "lib/override.blend")
    expected.file("Image", "lib/materials/tex/skin.png", "lib/tex/shirt.png", "lib/box.png")
    expected.lack("Image", "lib/tex/wood gone.png")
    expected.lack("Library", "lib/lost.blend")
    expected.lack("Library", "lib/broken.blend", "Unreadable")


def linked(expected: Expected) -> None:
    scene = bpy.context.scene.collection
    [heroes] = disk.link(path("lib/chars.blend"), collections=["Heroes"])
    scene.children.link(heroes)
    [prop] = disk.link(path("lib/chars.blend"), objects=["Prop"])
    scene.objects.link(prop)
    [box] = disk.link(path("lib/override.blend"), objects=["Box"])
    scene.objects.link(box.override_create(remap_local_usages=True))
    for name in ["Lost", "Broken"]:
        [gone] = disk.link(path(f"lib/{name.lower()}.blend"), objects=[name])
        scene.objects.link(gone)
    disk.save(SHOT)
    os.remove(path("lib/lost.blend"))
    os.truncate(path("lib/broken.blend"), 100_000)
    if VERSION >= (5, 0):
        # Linked and packed: the datablocks are in the shot, their textures beside the library.
        png("lib/packed/tex/deep.png")
        disk.new_file()
        thing = disk.mesh_object("Packed")
        thing.data.materials.append(textured("Deep", "//tex/deep.png"))
        disk.save("lib/packed/packed.blend")
        disk.reopen(SHOT)
        loading = bpy.data.libraries.load(
            path("lib/packed/packed.blend"), link=True, relative=True, pack=True
        )
        with loading as (_, into):
            into.objects = ["Packed"]
        bpy.context.scene.collection.objects.link(into.objects[0])
        expected.not_needed.append(path("lib/packed/packed.blend"))
        expected.file("Image", "lib/packed/tex/deep.png")


def paths_of_elsewhere(expected: Expected) -> None:
    image("Drive", "C:\\no such directory\\a.png")
    expected.lack("Image", "C:\\no such directory\\a.png", "WindowsPath")
    image("Nowhere", "nowhere.png")
    expected.lack("Image", "nowhere.png", "NoDirectory")


def images(expected: Expected) -> None:
    png("shots/sh 01/tex/räum lich.png")
    image("Relative", "//tex/räum lich.png")
    expected.file("Image", "shots/sh 01/tex/räum lich.png")
    png("shared/abs.png")
    image("Absolute", path("shared/abs.png"))
    image("Twice", "//../../shared/./abs.png")
    expected.file("Image", "shared/abs.png")
    png("shots/sh 01/tex/win.png")
    image("Windows", "//tex\\win.png")
    expected.file("Image", "shots/sh 01/tex/win.png")

    image("Gone", "//tex/gone.png")
    expected.lack("Image", "shots/sh 01/tex/gone.png")
    image("Empty", "")

    png("shots/sh 01/tex/packed.png")
    image("Packed", "//tex/packed.png").pack()
    bpy.data.images.new("Generated", 4, 4).use_fake_user = True

    for name in ["f_0001.png", "f_0002.png", "f_0104.png", "f_10000.png"]:
        png(f"shots/sh 01/seq/{name}")
        expected.file("ImageSequence", f"shots/sh 01/seq/{name}")
    for name in ["f_002.png", "f_00005.png", "f_0001.jpg", "f_x.png", "ff_0001.png"]:
        png(f"shots/sh 01/seq/{name}")
    image("Sequence", "//seq/f_0002.png", "SEQUENCE")
    image("Sequence gone", "//seq/gone_0001.png", "SEQUENCE")
    expected.lack("ImageSequence", "shots/sh 01/seq/gone_0001.png")

    for name in ["u.1001.png", "u.1002.png", "u.1012.png"]:
        png(f"shots/sh 01/udim/{name}")
        expected.file("UdimTile", f"shots/sh 01/udim/{name}")
    tiled = image("Tiles", "//udim/u.<UDIM>.png", "TILED")
    for number in [1002, 1012, 1021]:
        tiled.tiles.new(number)
    expected.lack("UdimTile", "shots/sh 01/udim/u.1021.png")
    png("shots/sh 01/udim/v_u1_v1.png")
    image("Other tiles", "//udim/v_<UVTILE>.png", "TILED")
    expected.file("UdimTile", "shots/sh 01/udim/v_u1_v1.png")

    touch("shots/sh 01/tex/screen.mp4")
    image("Movie", "//tex/screen.mp4", "MOVIE")
    expected.file("Movie", "shots/sh 01/tex/screen.mp4")

    # What a world, a node group and a compositor use are images like any other.
    png("shots/sh 01/tex/sky.png")
    world = bpy.data.worlds.new("World")
    world.use_nodes = True
    world.node_tree.nodes.new("ShaderNodeTexEnvironment").image = image("Sky", "//tex/sky.png")
    bpy.context.scene.world = world
    png("shots/sh 01/tex/comp.png")
    node = disk.compositor(bpy.context.scene).nodes.new("CompositorNodeImage")
    node.image = bpy.data.images.load(path("shots/sh 01/tex/comp.png"))
    expected.file("Image", "shots/sh 01/tex/sky.png", "shots/sh 01/tex/comp.png")


def views(expected: Expected) -> None:
    """A stereo texture: one name stands for both eyes' files."""
    bpy.context.scene.render.use_multiview = True
    for eye in ["L", "R"]:
        png(f"shots/sh 01/tex/eye_{eye}.png")
    image("Stereo", "//tex/eye_L.png", use_multiview=True, views_format="INDIVIDUAL")
    expected.file("Image", "shots/sh 01/tex/eye_L.png", "shots/sh 01/tex/eye_R.png")


def clips_sounds_fonts(expected: Expected) -> None:
    touch("shots/sh 01/clips/plate.mp4")
    for number in [1, 2]:
        png(f"shots/sh 01/clips/plate_{number:03}.png")
    for name in ["plate.mp4", "plate_001.png"]:
        bpy.data.movieclips.load(path(f"shots/sh 01/clips/{name}")).use_fake_user = True
    for name in ["plate.mp4", "plate_001.png", "plate_002.png"]:
        expected.file("MovieClip", f"shots/sh 01/clips/{name}")

    wav("shots/sh 01/audio/voice.wav")
    wav("shots/sh 01/audio/packed.wav")
    speaker = bpy.data.speakers.new("Speaker")
    speaker.sound = bpy.data.sounds.load(path("shots/sh 01/audio/voice.wav"))
    speaker.use_fake_user = True
    packed = bpy.data.sounds.load(path("shots/sh 01/audio/packed.wav"))
    packed.use_fake_user = True
    packed.pack()
    expected.file("Sound", "shots/sh 01/audio/voice.wav")

    for name in ["title", "packed"]:
        made = bpy.data.fonts.load(disk.font(f"fonts/{name}.woff2"))
        made.filepath = f"//../../fonts/{name}.woff2"
        made.use_fake_user = True
        if name == "packed":
            made.pack()
    bpy.data.curves.new("Built in", "FONT").use_fake_user = True
    expected.file("Font", "fonts/title.woff2")

    touch("shots/sh 01/notes.py", b"")
    bpy.data.texts.load(path("shots/sh 01/notes.py"))
    expected.not_needed.append(path("shots/sh 01/notes.py"))


def volumes_and_caches(expected: Expected) -> None:
    touch("cache/cloud.vdb")
    cloud = bpy.data.volumes.new("Cloud")
    cloud.filepath = "//../../cache/cloud.vdb"
    cloud.use_fake_user = True
    smoke = bpy.data.volumes.new("Smoke")
    smoke.filepath = "//../../cache/smoke_9.vdb"
    smoke.is_sequence = True
    smoke.frame_duration = 3
    smoke.use_fake_user = True
    numbers = [f"cache/smoke_{number}.vdb" for number in [8, 9, 10]]
    for name in numbers:
        touch(name)
    expected.file("Volume", "cache/cloud.vdb", *numbers)

    touch("cache/crowd.abc")
    bpy.ops.cachefile.open(filepath=path("cache/crowd.abc"))
    crowd = bpy.data.cache_files[0]
    modifier = disk.mesh_object("Crowd").modifiers.new("Cache", "MESH_SEQUENCE_CACHE")
    modifier.cache_file = crowd
    expected.file("CacheFile", "cache/crowd.abc")
    for end, kind in [("mdd", "MDD"), ("pc2", "PC2")]:
        touch(f"cache/wave.{end}")
        modifier = disk.mesh_object(end).modifiers.new("Cache", "MESH_CACHE")
        modifier.cache_format = kind
        modifier.filepath = f"//../../cache/wave.{end}"
        expected.file("MeshCache", f"cache/wave.{end}")


def shaders(expected: Expected) -> None:
    material = bpy.data.materials.new("Scripted")
    material.use_nodes = True
    material.use_fake_user = True
    group = bpy.data.node_groups.new("Group", "ShaderNodeTree")
    group.use_fake_user = True
    touch("shots/sh 01/lamp.ies")
    touch("shots/sh 01/noise.osl")
    for tree in [material.node_tree, group]:
        lamp = tree.nodes.new("ShaderNodeTexIES")
        lamp.mode = "EXTERNAL"
        lamp.filepath = "//lamp.ies" if tree is group else "//no lamp.ies"
        tree.nodes.new("ShaderNodeTexIES").mode = "INTERNAL"
    script = group.nodes.new("ShaderNodeScript")
    script.mode = "EXTERNAL"
    script.filepath = "//noise.osl"
    expected.file("Ies", "shots/sh 01/lamp.ies")
    expected.lack("Ies", "shots/sh 01/no lamp.ies")
    expected.file("Osl", "shots/sh 01/noise.osl")
    if VERSION >= (4, 5):
        touch("shots/sh 01/lens.osl")
        lens = bpy.data.cameras.new("Lens")
        lens.use_fake_user = True
        lens.type = "CUSTOM"
        lens.custom_mode = "EXTERNAL"
        lens.custom_filepath = "//lens.osl"
        expected.file("Osl", "shots/sh 01/lens.osl")


def modifiers(expected: Expected) -> None:
    sculpt = disk.mesh_object("Sculpt")
    sculpt.modifiers.new("Multires", "MULTIRES")
    bpy.context.view_layer.objects.active = sculpt
    bpy.ops.object.multires_subdivide(modifier="Multires")
    bpy.ops.object.multires_external_save(filepath=path("shots/sh 01/sculpt.btx"))
    expected.file("Multires", "shots/sh 01/sculpt.btx")

    # A bake in the background does not mark the modifier as baked; what is there is taken anyway.
    disk.mesh_object("Ocean").modifiers.new("Ocean", "OCEAN").filepath = "//ocean"
    touch("shots/sh 01/ocean/disp_0001.exr")
    expected.file("OceanCache", "shots/sh 01/ocean/disp_0001.exr")
    disk.mesh_object("Calm").modifiers.new("Ocean", "OCEAN").filepath = "//calm"
    expected.not_needed.append(path("shots/sh 01/calm"))


def physics(expected: Expected) -> None:
    scene = bpy.context.scene
    flag = disk.mesh_object("Flag").modifiers.new("Cloth", "CLOTH")
    flag.point_cache.use_disk_cache = True
    flag.point_cache.frame_end = scene.frame_end = 2
    bpy.ops.ptcache.bake_all(bake=True)
    folder = "shots/sh 01/blendcache_Schuß 01"
    expected.file("PointCache", *(f"{folder}/{name}" for name in sorted(os.listdir(path(folder)))))
    touch(f"{folder}/notes.txt")

    far = disk.mesh_object("Far").modifiers.new("Cloth", "CLOTH")
    far.point_cache.use_external = True
    far.point_cache.filepath = "//../../cache/points"
    far.point_cache.name = "sim"
    for name in ["sim_000001_00.bphys", "sim_000002_00.bphys"]:
        touch(f"cache/points/{name}")
        expected.file("PointCache", f"cache/points/{name}")
    touch("cache/points/other_000001_00.bphys")

    domain = disk.mesh_object("Tank").modifiers.new("Fluid", "FLUID")
    domain.fluid_type = "DOMAIN"
    domain.domain_settings.cache_directory = "//fluid"
    for name in ["config/config_0001.uni", "data/fluid_data_0001.vdb", "mesh/m_0001.bobj.gz"]:
        touch(f"shots/sh 01/fluid/{name}")
        expected.file("FluidCache", f"shots/sh 01/fluid/{name}")
    dry = disk.mesh_object("Dry").modifiers.new("Fluid", "FLUID")
    dry.fluid_type = "DOMAIN"
    dry.domain_settings.cache_directory = "//dry"
    expected.lack("FluidCache", "shots/sh 01/dry")


def bakes(expected: Expected) -> None:
    if VERSION < (4, 2):
        return
    grown = disk.mesh_object("Grown")
    modifier = grown.modifiers.new("Nodes", "NODES")
    tree = bpy.data.node_groups.new("Bakes", "GeometryNodeTree")
    modifier.node_group = tree
    tree.nodes.new("GeometryNodeBake")
    tree.nodes.new("GeometryNodeBake")
    modifier.bake_directory = "//bakes"
    if hasattr(modifier, "bake_target"):
        modifier.bake_target = "DISK"
    own = modifier.bakes[1]
    own.use_custom_path = True
    own.directory = "//own bake"
    for name in ["bakes/17/meta/00001_00000.json", "bakes/17/blobs/00001_00000.blob"]:
        touch(f"shots/sh 01/{name}")
        expected.file("NodesBake", f"shots/sh 01/{name}")
    touch("shots/sh 01/own bake/meta/00001_00000.json")
    expected.file("NodesBake", "shots/sh 01/own bake/meta/00001_00000.json")


def imports(expected: Expected) -> None:
    if VERSION < (4, 5):
        return
    modifier = disk.mesh_object("Imported").modifiers.new("Nodes", "NODES")
    tree = bpy.data.node_groups.new("Imports", "GeometryNodeTree")
    modifier.node_group = tree
    for end in ["OBJ", "PLY", "STL", "CSV", "VDB"]:
        node = tree.nodes.new(f"GeometryNodeImport{end}")
        node.inputs[0].default_value = f"//import.{end.lower()}"
        if end == "VDB":
            expected.lack("NodesImport", f"shots/sh 01/import.{end.lower()}")
        else:
            touch(f"shots/sh 01/import.{end.lower()}")
            expected.file("NodesImport", f"shots/sh 01/import.{end.lower()}")
    socket = tree.interface.new_socket("File", in_out="INPUT", socket_type="NodeSocketString")
    socket.subtype = "FILE_PATH"
    socket.default_value = "//no default.obj"
    modifier[socket.identifier] = "//given.obj"
    touch("shots/sh 01/given.obj")
    expected.file("NodesImport", "shots/sh 01/given.obj")


def sequencer(expected: Expected) -> None:
    strips = disk.strips_of(bpy.context.scene)
    cuts = ["a.png", "b 2.png", "ü.png", "in meta.png"]
    for name in [*cuts, "both_L.png", "both_R.png"]:
        png(f"edit/{name}")
        expected.file("Strip", f"edit/{name}")
    cut = strips.new_image("Cut", path("edit/a.png"), 1, 1)
    cut.directory = "//../../edit/"
    cut.elements.append("b 2.png")
    cut.elements.append("ü.png")
    both = strips.new_image("Both", path("edit/both_L.png"), 2, 1)
    both.use_multiview = True
    both.views_format = "INDIVIDUAL"
    touch("edit/cut.mp4")
    strips.new_movie("Movie", path("edit/cut.mp4"), 3, 1)
    expected.file("Strip", "edit/cut.mp4")
    meta = strips.new_meta("Meta", 4, 1)
    inner = meta.strips if hasattr(meta, "strips") else meta.sequences
    inner.new_image("Inner", path("edit/in meta.png"), 1, 1)
    if bpy.app.build_options.audaspace:
        wav("edit/music.wav")
        strips.new_sound("Music", path("edit/music.wav"), 5, 1)
        expected.file("Sound", "edit/music.wav")
