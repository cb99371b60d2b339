"""How Cycles renders, and add-ons that the scene may need for it."""

from __future__ import annotations

import difflib
from typing import Any

import addon_utils
import bpy

from worker import host, shot
from worker.link import Refused
from worker.opening import listed
from worker.overrides import Overrides
from worker.session import checks
from worker.session.state import Session, operation

KINDS = ("CPU", "CUDA", "OPTIX", "HIP", "ONEAPI", "METAL")

NVIDIA = {"CUDA", "OPTIX"}
"""Two ways to use the same GPU."""


@operation
def cycles_settings(
    session: Session,
    device: str | None = None,
    samples: int | None = None,
    threshold: float | None = None,
    denoise: bool | None = None,
    bounces: int | None = None,
    persistent_data: bool | None = None,
    seed: int | None = None,
) -> list[str]:
    """Sets what is given: `samples` of a pixel at most; the noise `threshold`, below which a pixel
    gets no more of them (0: it gets all); whether pictures are denoised; how often light bounces;
    whether Cycles keeps its data between frames; the seed of the noise. Returns the names of the
    devices that Cycles computes on.

    `device` is for being sure: a session has one device, from its beginning to its end. An NVIDIA
    GPU can be used by `cuda` or by `optix`. A `RuntimeError` if it is another one, or if the scene
    is not rendered with Cycles.
    """
    scene = session.scene
    if scene.render.engine != "CYCLES":
        raise RuntimeError(
            f"scene `{scene.name}` is rendered with {scene.render.engine}, which has no settings "
            "of Cycles"
        )
    changed = Overrides()
    try:
        set_samples(scene.cycles, samples, threshold, changed)
        set_light(scene.cycles, bounces, seed, changed)
        if denoise is not None:
            set_denoising(scene.cycles, denoise, changed)
        if persistent_data is not None:
            checks.flag("persistent_data", persistent_data)
        chosen = session.compute if device is None else choose_device(session, device)
        used = devices_in_use(session, chosen)
    except Exception:
        changed.restore()
        raise
    session.compute = chosen
    if persistent_data is not None:
        session.persistent_data = persistent_data
    return used


@operation
def load_addons(session: Session, names: Any) -> list[str]:
    """Turns add-ons on that this Blender comes with, by the names of their modules or as Blender's
    preferences have them, in any case. Returns their modules' names."""
    known: dict[str, str] = {}
    for module in addon_utils.modules():
        known[addon_utils.module_bl_info(module)["name"].lower()] = module.__name__
    known.update({name.lower(): name for name in set(known.values())})
    wanted = [known.get(name.strip().lower()) for name in checks.names("names", names)]
    for name, module in zip(checks.names("names", names), wanted, strict=True):
        if module is None:
            close = difflib.get_close_matches(name.strip().lower(), known, n=3)
            near = listed(known[one] for one in close)
            hint = f": did you mean {near}?" if near else ""
            raise ValueError(f"Blender {bpy.app.version_string} has no add-on `{name}`{hint}")
    modules = [module for module in wanted if module is not None]
    for module in modules:
        enable(session, module)
    return modules


def enable(session: Session, module: str) -> None:
    errors: list[Exception] = []
    if addon_utils.enable(module, default_set=True, handle_error=errors.append) is None:
        why = f": {errors[0]}" if errors else ""
        raise RuntimeError(f"add-on `{module}` cannot be turned on{why}")
    for error in errors:
        session.warn(f"add-on `{module}` is on, but complained: {error}")


def set_samples(cycles: Any, samples: Any, threshold: Any, changed: Overrides) -> None:
    if samples is not None:
        changed.set(cycles, "samples", checks.whole("samples", samples, 1, 1 << 24))
        # View layers may have numbers of their own.
        changed.set(cycles, "use_layer_samples", "IGNORE")
    if threshold is not None:
        noise = checks.real("threshold", threshold, 0.0, 1.0)
        changed.set(cycles, "use_adaptive_sampling", noise > 0)
        if noise > 0:
            changed.set(cycles, "adaptive_threshold", noise)


def set_light(cycles: Any, bounces: Any, seed: Any, changed: Overrides) -> None:
    if bounces is not None:
        changed.set(cycles, "max_bounces", checks.whole("bounces", bounces, 0, 1024))
    if seed is not None:
        changed.set(cycles, "seed", checks.whole("seed", seed, 0, (1 << 31) - 1))


def set_denoising(cycles: Any, wanted: Any, changed: Overrides) -> None:
    if checks.flag("denoise", wanted) and not host.has_denoiser():
        raise RuntimeError(
            f"Blender {bpy.app.version_string} was built without a denoiser: use one from "
            "blender.org, or denoise the pictures afterwards"
        )
    changed.set(cycles, "use_denoising", wanted)


def given(session: Session) -> tuple[str, str | None]:
    """Kind and address of the one device. Where nobody has said which it is, a GPU that Blender
    sees: whoever has started it lets it see no other."""
    if session.given is not None:
        return session.given
    kinds = [kind for kind, _, _ in host.cycles_devices() if kind != "CPU"]
    return (kinds[0] if kinds else "CPU"), None


def choose_device(session: Session, wanted: Any) -> str:
    """As Cycles spells it, if it is the one that there is."""
    kind = checks.text("device", wanted).upper()
    if kind not in KINDS:
        raise ValueError(
            f"there is no kind of device `{wanted}`: it is one of {', '.join(KINDS).lower()}"
        )
    has, _ = given(session)
    if kind != has and not {kind, has} <= NVIDIA:
        raise RuntimeError(
            f"this session was given {has} and cannot use {kind}: ask for {kind} when the session "
            "is created"
        )
    return kind


def devices_in_use(session: Session, chosen: str | None) -> list[str]:
    """Names of what a frame of this session is computed on, found out as for a frame."""
    has, pci = given(session)
    overrides = Overrides()
    try:
        shot.set_device(session.scene, chosen or has, pci, overrides)
        used = host.device_in_use(session.scene)
    except Refused as refused:
        raise RuntimeError(str(refused)) from None
    finally:
        overrides.restore()
    names: dict[str, str] = {ident: name for _, name, ident in host.cycles_devices()}
    idents: list[str] = used["ids"] if used else []
    return [names.get(ident, ident) for ident in idents]
