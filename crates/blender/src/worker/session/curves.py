"""The animation curves of the open file, in all forms that actions have had.

Up to 4.3 an action has its curves at hand; from then on every thing that it moves has a slot with
curves of its own, in layers of strips.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any, NamedTuple

import bpy

LAYERED = bpy.app.version >= (4, 4)


class Owner(NamedTuple):
    """Where a curve is."""

    action: bpy.types.Action
    slot: str
    """Empty before 4.4."""


def every_curve() -> Iterator[tuple[Owner, bpy.types.FCurve]]:
    """Those of every action, linked ones and ones that nothing uses included; no drivers."""
    for action in bpy.data.actions:
        yield from curves_of(action)


def curves_of(action: bpy.types.Action) -> Iterator[tuple[Owner, bpy.types.FCurve]]:
    if not LAYERED:
        for curve in action.fcurves:
            yield Owner(action, ""), curve
        return
    for layer in action.layers:
        for strip in layer.strips:
            for bag in strip.channelbags:
                for curve in bag.fcurves:
                    yield Owner(action, bag.slot.identifier if bag.slot else ""), curve


def key(owner: Owner, curve: bpy.types.FCurve) -> tuple[str, str, str, int]:
    return (owner.action.name_full, owner.slot, curve.data_path, curve.array_index)


def read(curve: bpy.types.FCurve, attribute: str, width: int) -> array[float]:
    """That attribute of all keyframes at once, `width` numbers each."""
    numbers = array("f", bytes(4 * width * len(curve.keyframe_points)))
    curve.keyframe_points.foreach_get(attribute, numbers)
    return numbers


def animated() -> Iterator[tuple[bpy.types.ID, bpy.types.AnimData]]:
    """Everything in the file that has animation, node trees and shape keys included."""
    for prop in bpy.data.bl_rna.properties:
        if prop.type != "COLLECTION":
            continue
        for block in getattr(bpy.data, prop.identifier):
            for one in (block, getattr(block, "node_tree", None)):
                data: Any = getattr(one, "animation_data", None)
                if one is not None and data is not None:
                    yield one, data


def owners() -> dict[str, list[str]]:
    """Names of what each action moves, by the action's name; what NLA strips move included."""
    found: dict[str, list[str]] = {}
    for block, data in animated():
        strips = (strip for track in data.nla_tracks for strip in track.strips)
        for action in {data.action, *(strip.action for strip in strips)} - {None}:
            names = found.setdefault(action.name_full, [])
            if block.name not in names:
                names.append(block.name)
    return found
