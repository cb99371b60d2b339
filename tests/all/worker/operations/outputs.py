"""Pictures, Cycles, add-ons and saved files."""

import os
import tempfile

import bpy
from stage import call, check, farm, fresh, near, raised
from worker import host
from worker.session import frames, naming


@check
def sizes_and_formats():
    scene, _ = fresh()
    render, settings = scene.render, scene.render.image_settings
    render.resolution_percentage = 50
    call("set_resolution", width=300)
    size = (render.resolution_x, render.resolution_y, render.resolution_percentage)
    assert size == (300, 540, 100), size
    call("set_resolution", 120, 160)
    assert (render.resolution_x, render.resolution_y) == (160, 120)
    assert "height is 4 to" in raised(ValueError, "set_resolution", 0)
    call("image_settings", "open_exr", 32, "rgb", "dwaa", 80)
    now = (settings.file_format, settings.color_depth, settings.color_mode, settings.exr_codec)
    assert now == ("OPEN_EXR", "32", "RGB", "DWAA") and settings.quality == 80, now
    says = raised(ValueError, "image_settings", "PNG", bit_depth=32)
    assert says == "there is no bit_depth `32` of PNG: it takes 8, 16", says
    now = (settings.file_format, settings.color_depth, settings.color_mode, settings.exr_codec)
    assert now == ("OPEN_EXR", "32", "RGB", "DWAA"), now
    assert "did you mean `PNG`" in raised(ValueError, "image_settings", "PNGG")
    assert "is a movie" in raised(ValueError, "image_settings", "ffmpeg")
    assert "has no codec" in raised(ValueError, "image_settings", "PNG", codec="ZIP")
    assert "has no quality" in raised(ValueError, "image_settings", "PNG", quality=3)
    assert settings.file_format == "OPEN_EXR"
    files = call("frame_files", "000012")
    assert files["file_path"] == "frames/frame_000012.exr", files
    for name, ending in (("OPEN_EXR_MULTILAYER", "exr"), ("jpg", "jpg"), ("PNG", "png")):
        call("image_settings", name)
        files = call("frame_files", "000012")
        assert files["file_path"] == f"frames/frame_000012.{ending}", files
    if hasattr(settings, "media_type"):
        settings.media_type = "VIDEO"
    settings.file_format = "FFMPEG"
    naming.NAMERS.append(lambda _session, number: {"more": f"more_{number}"})
    files = call("frame_files", "7")
    naming.NAMERS.pop()
    assert files == {"file_path": "frames/frame_7.png", "more": "more_7"}, files
    says = raised(ValueError, "image_settings", "PNG", color_mode="CMYK")
    assert "it takes BW, RGB, RGBA" in says and settings.file_format == "FFMPEG", says


@check
def cycles_is_set_and_says_what_it_uses():
    scene, _ = fresh()
    cycles = scene.cycles
    cpu = next(name for kind, name, _ in host.cycles_devices() if kind == "CPU")
    before = (cycles.use_denoising, cycles.seed, cycles.use_adaptive_sampling)
    assert call("cycles_settings", device="cpu", samples=7, bounces=3) == [cpu]
    assert (cycles.samples, cycles.max_bounces) == (7, 3)
    assert (cycles.use_denoising, cycles.seed, cycles.use_adaptive_sampling) == before
    call("cycles_settings", threshold=0.05, seed=9, persistent_data=True, denoise=False)
    assert near(cycles.adaptive_threshold, 0.05) and cycles.use_adaptive_sampling
    assert cycles.seed == 9 and not cycles.use_denoising and farm.session.persistent_data is True
    call("cycles_settings", threshold=0)
    assert not cycles.use_adaptive_sampling
    order = frames.before(farm.session, {"frame": 4, "device": "CPU", "persistent_data": None})
    assert order == {"frame": 4, "device": "CPU", "persistent_data": True}, order
    says = raised(RuntimeError, "cycles_settings", device="cuda", samples=99)
    assert "was given CPU and cannot use CUDA" in says and cycles.samples == 7, says
    assert "one of cpu, cuda" in raised(ValueError, "cycles_settings", device="gpu")
    assert "samples is 1 to" in raised(ValueError, "cycles_settings", seed=1, samples=0)
    assert cycles.seed == 9
    assert "true or false" in raised(TypeError, "cycles_settings", denoise=1)
    if not host.has_denoiser():
        assert "without a denoiser" in raised(RuntimeError, "cycles_settings", denoise=True)
    farm.session.given = ("CUDA", None)
    says = raised(RuntimeError, "cycles_settings", device="OptiX")
    assert "sees none" in says or "was built without OPTIX" in says, says
    assert farm.session.compute == "CPU"
    scene.render.engine = "BLENDER_WORKBENCH"
    assert "rendered with BLENDER_WORKBENCH" in raised(RuntimeError, "cycles_settings")


@check
def addons_by_any_name():
    fresh()
    assert call("load_addons", ["IO_Curve_SVG"]) == ["io_curve_svg"]
    label = "Scalable Vector Graphics (SVG) 1.1 format"
    assert call("load_addons", label) == ["io_curve_svg"]
    says = raised(ValueError, "load_addons", ["io_curve_svgg"])
    assert "has no add-on `io_curve_svgg`: did you mean `io_curve_svg`" in says, says


@check
def files_are_saved_as_they_are():
    scene, _ = fresh()
    image = bpy.data.images.new("relative", 4, 4)
    image.source, image.filepath = "FILE", "//textures/wood.png"
    image.use_fake_user = True
    with tempfile.TemporaryDirectory() as scratch:
        farm.session.scratch = os.path.join(scratch, "call")
        scene.frame_end = 77
        assert call("save_file", "sub/changed") == "sub/changed.blend"
        assert call("save_file") == "scene.blend"
        assert not bpy.data.filepath, "the open file is another one now"
        for bad in ("/etc/x.blend", "../x.blend", "", "a//b", "a/"):
            assert "is no name for a file" in raised(ValueError, "save_file", bad), bad
        path = os.path.join(farm.session.scratch, "sub/changed.blend")
        bpy.ops.wm.open_mainfile(filepath=path, load_ui=False)
    assert bpy.data.images["relative"].filepath == "//textures/wood.png"
    assert bpy.context.scene.frame_end == 77
