"""Scenes with settings of every kind, and what Blender says about each of them."""

import bpy
import disk
from disk import VERSION, path


def make() -> dict:
    cameras_of_a_library()
    disk.new_file()
    disk.save("settings/scenes.blend")
    plain(bpy.context.scene)
    for step in [range_and_rate, markers, layers, linked_cameras, compositing, sequencing]:
        step()
    for step in [denoising, formats, output_paths]:
        step()
    bpy.context.window.scene = bpy.data.scenes["Layers"]
    disk.save("settings/scenes.blend", compress=True)
    return {
        "file": path("settings/scenes.blend"),
        "active": bpy.context.scene.name,
        "scenes": [described(scene) for scene in bpy.data.scenes],
    }


def described(scene) -> dict:
    render = scene.render
    image = render.image_settings
    return {
        "name": scene.name,
        "engine": render.engine,
        "frames": [scene.frame_start, scene.frame_end, scene.frame_step],
        "frame_current": scene.frame_current,
        "camera": scene.camera and scene.camera.name,
        "cameras": sorted({o.name for o in scene.collection.all_objects if o.type == "CAMERA"}),
        "marker_cameras": sorted([m.frame, m.camera.name] for m in markers_of(scene)),
        "view_layers": [[layer.name, layer.use] for layer in scene.view_layers],
        "resolution": [render.resolution_x, render.resolution_y, render.resolution_percentage],
        "rate": [render.fps, render.fps_base],
        "filepath": render.filepath,
        "format": image.file_format,
        "extension": None if render.is_movie_format else render.file_extension,
        "is_movie": render.is_movie_format,
        "adds_extension": render.use_file_extension,
        "multiview": multiview(scene),
        "uses_compositor": expects(scene, "compositor"),
        "writes_files": expects(scene, "files"),
        "uses_sequencer": expects(scene, "sequencer"),
        "denoises": scene.cycles.use_denoising
        and any(layer.use and layer.cycles.use_denoising for layer in scene.view_layers),
        "samples": samples(scene),
        "frame_path": frame_path(render),
    }


def samples(scene):
    if scene.render.engine == "CYCLES":
        return scene.cycles.samples
    return scene.eevee.taa_render_samples if "EEVEE" in scene.render.engine else None


def expects(scene, name: str) -> bool:
    """What the step that made the scene says of it; Blender has no single property for it."""
    return bool(scene.get("expect", {}).get(name, False))


def markers_of(scene) -> list:
    return [marker for marker in scene.timeline_markers if marker.camera]


def multiview(scene):
    render = scene.render
    if not render.use_multiview:
        return None
    stereo = render.views_format == "STEREO_3D"
    views = [v for v in render.views if v.use and (not stereo or v.name in ("left", "right"))]
    return [render.image_settings.views_format, [view.file_suffix for view in views]]


def frame_path(render):
    """The name of frame 7, where Blender has one."""
    try:
        return render.frame_path(frame=7).rsplit("/", 1)[-1]
    except RuntimeError:
        return None


def new_scene(name: str, **expect):
    scene = bpy.data.scenes.new(name)
    scene["expect"] = expect
    plain(scene)
    return scene


def plain(scene) -> None:
    scene.render.use_compositing = scene.render.use_sequencer = False
    scene.render.engine = "CYCLES"


def camera(name: str, collection) -> bpy.types.Object:
    made = bpy.data.objects.new(name, bpy.data.cameras.new(name))
    collection.objects.link(made)
    return made


def cameras_of_a_library() -> None:
    disk.new_file()
    outer = bpy.data.collections.new("Rigs")
    inner = bpy.data.collections.new("Inner rigs")
    bpy.context.scene.collection.children.link(outer)
    outer.children.link(inner)
    camera("Dolly", outer)
    camera("Crane", inner)
    camera("Loose", bpy.context.scene.collection)
    disk.mesh_object("Track")
    bpy.data.scenes.new("Away").render.resolution_x = 77
    disk.save("settings/lib/rigs.blend")


def range_and_rate() -> None:
    scene = new_scene("Range")
    scene.frame_start, scene.frame_end, scene.frame_step = 3, 101, 7
    scene.frame_current = 17
    scene.render.fps, scene.render.fps_base = 30, 1.001
    scene.render.resolution_x, scene.render.resolution_y = 641, 359
    scene.render.resolution_percentage = 50
    scene.render.engine = "BLENDER_WORKBENCH"
    eevee = "BLENDER_EEVEE_NEXT" if (4, 2) <= VERSION < (5, 0) else "BLENDER_EEVEE"
    scene = new_scene("Eevee")
    scene.render.engine = eevee
    scene.eevee.taa_render_samples = 17
    new_scene("Samples").cycles.samples = 23


def markers() -> None:
    scene = new_scene("Markers")
    first, second = camera("A", scene.collection), camera("B ü", scene.collection)
    scene.camera = first
    scene.timeline_markers.new("late", frame=90).camera = first
    scene.timeline_markers.new("early", frame=-4).camera = second
    scene.timeline_markers.new("no camera", frame=5)


def layers() -> None:
    scene = new_scene("Layers")
    scene.view_layers.new("Front").use = False
    scene.view_layers.new("Bäck")
    nested = bpy.data.collections.new("Nested")
    scene.collection.children.link(nested)
    camera("Nested camera", nested)
    nested.objects.link(bpy.data.objects.new("Nothing", None))


def linked_cameras() -> None:
    scene = new_scene("Linked")
    library = path("settings/lib/rigs.blend")
    [rigs] = disk.link(library, collections=["Rigs"])
    scene.collection.children.link(rigs)
    loose, track = disk.link(library, objects=["Loose", "Track"])
    scene.collection.objects.link(track)
    scene.collection.objects.link(loose)
    scene.camera = bpy.data.objects["Dolly"]
    scene.timeline_markers.new("loose", frame=3).camera = loose
    own = new_scene("Overridden")
    own.collection.objects.link(loose.override_create())
    disk.link(library, scenes=["Away"])


def compositing() -> None:
    scene = new_scene("Composited", compositor=True)
    disk.compositor(scene)
    scene.render.use_compositing = True
    disk.compositor(new_scene("Compositor off"))

    scene = new_scene("Writes files", compositor=True, files=True)
    group = bpy.data.node_groups.new("Inside", "CompositorNodeTree")
    group.nodes.new("CompositorNodeOutputFile")
    disk.compositor(scene).nodes.new("CompositorNodeGroup").node_tree = group
    scene.render.use_compositing = True

    scene = new_scene("Muted", compositor=True)
    disk.compositor(scene).nodes.new("CompositorNodeOutputFile").mute = True
    scene.render.use_compositing = True


def sequencing() -> None:
    scene = new_scene("Cut", sequencer=True)
    scene.render.use_sequencer = True
    disk.color_strip(disk.strips_of(scene), "color")
    scene = new_scene("Muted cut")
    scene.render.use_sequencer = True
    disk.color_strip(disk.strips_of(scene), "color").mute = True


def denoising() -> None:
    new_scene("Noisy").cycles.use_denoising = False
    new_scene("Clean").cycles.use_denoising = True
    new_scene("Noisy layer").view_layers[0].cycles.use_denoising = False


def formats() -> None:
    pictures = "BMP IRIS PNG JPEG JPEG2000 TARGA TARGA_RAW CINEON DPX OPEN_EXR HDR TIFF WEBP"
    for name in [*pictures.split(), "OPEN_EXR_MULTILAYER", "FFMPEG"]:
        set_format(new_scene(name), name)
    scene = new_scene("J2K")
    set_format(scene, "JPEG2000")
    scene.render.image_settings.jpeg2k_codec = "J2K"


def set_format(scene, name: str) -> None:
    image = scene.render.image_settings
    if hasattr(image, "media_type"):
        special = {"OPEN_EXR_MULTILAYER": "MULTI_LAYER_IMAGE", "FFMPEG": "VIDEO"}
        image.media_type = special.get(name, "IMAGE")
    image.file_format = name


def output_paths() -> None:
    paths = ["//render/img_####", "/tmp/", "//", "", "//v1.2_", "//a_##.png", "//a##b###c"]
    # A template only since 4.5, and there one that Blender refuses.
    paths += ["//{x}_#"]
    if VERSION >= (4, 5):
        paths += ["//{blend_name}_##", "//{fps:##.##}_", "//{{x}}_"]
        paths += ["//{resolution_x}x{resolution_y:######}_#"]
    if VERSION >= (5, 0):
        paths += ["//{scene_name}_", "//{camera_name}.####"]
    for number, filepath in enumerate(paths):
        scene = new_scene(f"Output:{number}")
        scene.camera = camera(f"Cam/{number}", scene.collection)
        scene.render.filepath = filepath
    scene = new_scene("No extension")
    scene.render.use_file_extension = False
    scene.render.filepath = "//raw_####.png"
