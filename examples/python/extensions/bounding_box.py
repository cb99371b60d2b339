"""An extension: the box that holds everything visible in the scene.

Sent to a session by `extend`, its public function becomes an operation of that session.
"""

from __future__ import annotations

import bpy
from mathutils import Vector

SOLID = {"MESH", "CURVE", "SURFACE", "META", "FONT", "CURVES", "POINTCLOUD", "VOLUME"}


def bounding_box(session, names: list[str] | None = None) -> dict:
    """Corners of the box around what renders, in scene units of the world, at the current frame:
    modifiers, instances and animation count. With `names`, of those objects alone."""
    graph = bpy.context.evaluated_depsgraph_get()
    wanted = None if names is None else set(names)
    corners = []
    for instance in graph.object_instances:
        item = instance.object
        original = instance.parent.original if instance.is_instance else item.original
        if item.type not in SOLID or item.hide_render or original.hide_render:
            continue
        if wanted is None or original.name in wanted:
            corners += [instance.matrix_world @ Vector(corner) for corner in item.bound_box]
    if wanted is not None:
        missing = sorted(wanted - set(session.scene.objects.keys()))
        if missing:
            raise ValueError(f"the scene has no object called {', '.join(missing)}")
    if not corners:
        raise RuntimeError("nothing in the scene has an extent")
    low = [min(corner[axis] for corner in corners) for axis in range(3)]
    high = [max(corner[axis] for corner in corners) for axis in range(3)]
    return {
        "min": low,
        "max": high,
        "center": [(a + b) / 2 for a, b in zip(low, high, strict=True)],
    }
