"""Which devices Cycles is let to use, for machines that have none: Blender's own code, told of GPUs
that are not there. Argument: the directory that has the worker."""

import os
import sys
import types

import bpy

sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[-1])

import _cycles as real  # noqa: E402
from worker import host, shot  # noqa: E402
from worker.link import Refused  # noqa: E402
from worker.overrides import Overrides  # noqa: E402


def pretend(*gpus: tuple) -> None:
    """Blender sees these besides the CPU: name, kind and id of each."""
    cpu = real.available_devices("CPU")[0]

    def available_devices(kind: str) -> tuple:
        return tuple([(*gpu, *cpu[3:]) for gpu in gpus if gpu[1] == kind] + [cpu])

    fake = types.ModuleType("_cycles")
    vars(fake).update(vars(real))
    fake.available_devices = available_devices
    sys.modules["_cycles"] = fake


def refusal(kind: str, pci: str | None) -> str:
    overrides = Overrides()
    try:
        shot.set_device(bpy.context.scene, kind, pci, overrides)
    except Refused as refused:
        assert refused.kind == "host", refused.kind
        return str(refused)
    finally:
        assert overrides.restore()
    raise AssertionError(f"{kind} at {pci} was not refused")


def in_use(kind: str, pci: str | None) -> dict:
    overrides = Overrides()
    shot.set_device(bpy.context.scene, kind, pci, overrides)
    used = host.device_in_use(bpy.context.scene)
    assert overrides.restore()
    return used


FIRST = ("Made Up 1", "CUDA", "CUDA_Made Up 1_0000:01:00")
SECOND = ("Made Up 2", "CUDA", "CUDA_Made Up 2_0000:0A:00")
CPU = {"kind": "CPU", "ids": ["CPU"]}


def only_the_one_that_was_given() -> None:
    scene, preferences = bpy.context.scene, host.cycles_preferences()
    scene.render.engine, scene.cycles.device = "CYCLES", "GPU"
    pretend()
    none = refusal("CUDA", "0000:01:00")
    begins = "the render is to use a CUDA device at 0000:01:00, but Blender "
    assert none.startswith(begins + bpy.app.version_string + " sees none, only `"), none
    pretend(FIRST, SECOND)
    several = refusal("CUDA", "0000:01:00")
    assert several.endswith(f" sees `Made Up 1 ({FIRST[2]})`, `Made Up 2 ({SECOND[2]})`"), several
    pretend(SECOND)
    assert "sees `Made Up 2 (" in refusal("CUDA", "0000:01:00")
    assert "was built without METAL" in refusal("METAL", None)
    # As the scene has it: on the GPU if there is one, which there is not as nobody chose it.
    assert preferences.compute_device_type == "NONE" and scene.cycles.device == "GPU"
    assert host.device_in_use(scene) == CPU

    # The bus is spelled in either case, and an entry of before does not matter.
    for pci in ("0000:0a:00", "0000:0A:00", None):
        assert in_use("CUDA", pci) == {"kind": "CUDA", "ids": [SECOND[2]]}
    assert [device.id for device in preferences.devices if device.use] == [SECOND[2]]
    assert in_use("CPU", None) == CPU
    # A GPU that goes away is not replaced by the CPU.
    pretend()
    assert "sees none" in refusal("CUDA", None)
    scene.render.engine = "BLENDER_WORKBENCH"
    assert host.device_in_use(scene) is None


def a_denoised_scene_is_not_tiled() -> None:
    scene = bpy.context.scene
    scene.render.engine, scene.cycles.tile_size = "CYCLES", 2048
    for denoised, size in ((True, 2048), (False, 256)):
        scene.cycles.use_denoising = denoised
        overrides = Overrides()
        shot.set_tiles(scene, overrides)
        assert scene.cycles.tile_size == size, (denoised, scene.cycles.tile_size)
        assert overrides.restore() and scene.cycles.tile_size == 2048


only_the_one_that_was_given()
a_denoised_scene_is_not_tiled()
print("all is well")
sys.stdout.flush()
os._exit(0)
