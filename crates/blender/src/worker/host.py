"""What this Blender is and has: version, engines, devices, denoiser."""

from __future__ import annotations

import contextlib
from typing import Any

import bpy

from worker.link import Refused, clip

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


def use_gpus(kind: str) -> None:
    """Lets Cycles use every device of a kind that this process sees, and no other.

    Which devices it sees is the business of whoever started it (`CUDA_VISIBLE_DEVICES` …).
    """
    preferences = bpy.context.preferences.addons["cycles"].preferences
    try:
        preferences.compute_device_type = kind
    except TypeError:
        raise Refused(
            "host", f"Blender {bpy.app.version_string} was built without {kind}"
        ) from None
    preferences.get_devices_for_type(kind)
    chosen = [device for device in preferences.devices if device.type == kind]
    if not chosen or not any(found == kind for found, _, _ in cycles_devices()):
        raise Refused("host", f"Blender sees no {kind} device: is its driver installed?")
    for device in preferences.devices:
        device.use = device.type == kind
