"""What this Blender is and has: version, engines, devices, denoiser."""

from __future__ import annotations

import contextlib
from typing import Any

import bpy

from worker.link import Refused, clip
from worker.opening import listed
from worker.overrides import Overrides

ENGINES = ("CYCLES", "BLENDER_EEVEE", "BLENDER_EEVEE_NEXT", "BLENDER_WORKBENCH")
DEVICES_MAX = 64


def describe(can_stop: bool) -> dict[str, Any]:
    """The fields of `hello`."""
    return {
        "version": list(bpy.app.version),
        "full_version": bpy.app.version_string,
        "engines": registered_engines(),
        "devices": [
            {"kind": kind, "name": clip(name), "id": clip(ident)}
            for kind, name, ident in cycles_devices()
        ],
        "denoiser": has_denoiser(),
        "can_stop": can_stop,
        "stats": bpy.app.version >= (4, 2),
    }


def registered_engines() -> list[str]:
    """Ids that a scene accepts. Whether an engine can render here only rendering shows."""
    render = bpy.data.scenes[0].render
    before = render.engine
    found: list[str] = []
    for engine in ENGINES:
        with contextlib.suppress(TypeError):
            render.engine = engine
            found.append(engine)
    render.engine = before
    return found


def has_denoiser() -> bool:
    """Whether OpenImageDenoise is built in; Debian's Blender comes without."""
    try:
        import _cycles
    except ImportError:
        return False
    return bool(getattr(_cycles, "with_openimagedenoise", False))


def cycles_devices() -> list[tuple[str, str, str]]:
    """Kind, name and id of what Cycles can compute on, CPU included."""
    try:
        import _cycles
    except ImportError:
        return []
    found: dict[str, tuple[str, str, str]] = {}
    for kind in ("CPU", "CUDA", "OPTIX", "HIP", "ONEAPI", "METAL"):
        # The call answers with the CPU whatever it is asked for.
        for name, own_kind, ident, *_ in _cycles.available_devices(kind):
            found.setdefault(f"{own_kind} {ident}", (own_kind, name, ident))
    return list(found.values())[:DEVICES_MAX]


def use_gpu(kind: str, pci: str | None, overrides: Overrides) -> None:
    """Lets Cycles use the one GPU that this process was given, and nothing else. Refuses if Blender
    sees none of the kind, several, or another one: Cycles would take what it finds, or the CPU.

    Which GPUs it sees is the business of whoever started it (`CUDA_VISIBLE_DEVICES` …).
    """
    asked = f"a {kind} device" + (f" at {pci}" if pci else "")
    version = f"Blender {bpy.app.version_string}"
    preferences = cycles_preferences()
    try:
        overrides.set(preferences, "compute_device_type", kind)
    except TypeError:
        raise Refused(
            "host", f"the render is to use {asked}, but {version} was built without {kind}"
        ) from None
    preferences.get_devices_for_type(kind)
    devices = cycles_devices()
    found = [(name, ident) for own_kind, name, ident in devices if own_kind == kind]
    if not found:
        seen = listed(f"{name} ({own_kind})" for own_kind, name, _ in devices)
        raise Refused(
            "host",
            f"the render is to use {asked}, but {version} sees none, only {seen or 'nothing'}: "
            "is the driver installed?",
        )
    if len(found) > 1 or (pci or "").lower() not in found[0][1].lower():
        seen = listed(f"{name} ({ident})" for name, ident in found)
        raise Refused("host", f"the render is to use {asked} alone, but {version} sees {seen}")
    for device in preferences.devices:
        device.use = device.type == kind and device.id == found[0][1]


def use_cpu(overrides: Overrides) -> None:
    """Leaves no GPU to Cycles, nor to its denoiser."""
    overrides.set(cycles_preferences(), "compute_device_type", "NONE")


def device_in_use(scene: bpy.types.Scene) -> dict[str, Any] | None:
    """What Cycles computes the scene on, found as Cycles finds it; `None` for other engines."""
    if scene.render.engine != "CYCLES":
        return None
    preferences = cycles_preferences()
    kind = preferences.compute_device_type
    if scene.cycles.device == "GPU" and kind not in ("", "NONE"):
        wanted = {device.id for device in preferences.devices if device.use}
        devices = [device for device in cycles_devices() if device[0] in (kind, "CPU")]
        used = [(own_kind, clip(ident)) for own_kind, _, ident in devices if ident in wanted]
        if any(own_kind == kind for own_kind, _ in used):
            return {"kind": kind, "ids": [ident for _, ident in used]}
    return {"kind": "CPU", "ids": ["CPU"]}


def cycles_preferences() -> Any:
    return bpy.context.preferences.addons["cycles"].preferences
