"""What Blender calls the pictures that it writes: one scene for each way, many names for each."""

import os

import bpy
import disk
import settings
from disk import path

PLAIN = ["a", "a.png", "a.PNG", "a.jpg", "a.jpeg", "v1.2", "a.exr", "a.", "a.mp4", "ü b.tif"]
NUMBERED = ["####", "a_##", "a_##.x", "a##b###c", "x.####"]


def make() -> dict:
    disk.new_file()
    scenes = [scene_of(name) for name in ["PNG", "JPEG", "TIFF", "OPEN_EXR", "OPEN_EXR_MULTILAYER"]]
    bare = scene_of("PNG")
    bare.render.use_file_extension = False
    scenes += [bare, *stereo_scenes()]
    written = []
    for number, scene in enumerate(scenes):
        scene.name = f"{number}"
        names = PLAIN + NUMBERED if number in (0, 5) or scene.render.use_multiview else PLAIN[:7]
        for name in names:
            for frame in [7, 12345] if name == "a_##" else [7]:
                files = render(scene, name, frame)
                written.append({"scene": scene.name, "name": name, "frame": frame, "files": files})
    return {"file": disk.save("pictures/pictures.blend"), "written": written}


def scene_of(image_format: str):
    scene = bpy.data.scenes.new("new")
    settings.plain(scene)
    settings.set_format(scene, image_format)
    scene.camera = settings.camera("Camera", scene.collection)
    scene.cycles.samples = 1
    scene.cycles.use_denoising = False
    scene.render.resolution_x = scene.render.resolution_y = 4
    scene.render.resolution_percentage = 100
    return scene


def stereo_scenes() -> list:
    made = []
    ways = [("STEREO_3D", "PNG", "INDIVIDUAL"), ("STEREO_3D", "PNG", "STEREO_3D")]
    ways += [("MULTIVIEW", "PNG", "INDIVIDUAL"), ("MULTIVIEW", "OPEN_EXR", "MULTIVIEW")]
    for setup, image_format, views in ways:
        scene = scene_of(image_format)
        scene.render.use_multiview = True
        scene.render.views_format = setup
        scene.render.image_settings.views_format = views
        scene.render.views.new("middle").file_suffix = "_mid.x"
        made.append(scene)
    single = scene_of("PNG")
    single.render.use_multiview = True
    single.render.views["right"].use = False
    return [*made, single]


def render(scene, name: str, frame: int) -> list:
    folder = path(f"pictures/{scene.name}/{len(os.listdir(path(f'pictures/{scene.name}/')))}/")
    scene.render.filepath = folder + name
    if "#" in name:
        scene.frame_start = scene.frame_end = frame
        bpy.ops.render.render(animation=True, scene=scene.name)
    else:
        scene.frame_set(frame)
        bpy.ops.render.render(write_still=True, scene=scene.name)
    return sorted(os.listdir(folder))
