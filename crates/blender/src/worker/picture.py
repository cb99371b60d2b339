"""How large the picture is that a scene renders, in pixels, to the last one."""

from __future__ import annotations

from array import array

import bpy


def picture_size(scene: bpy.types.Scene) -> tuple[int, int]:
    """Width and height in pixels, rounded as Blender does; those of the region if only a region is
    kept of the picture."""
    left, right, low, high = kept_region(scene)
    return max(right - left, 1), max(high - low, 1)


def whole_size(scene: bpy.types.Scene) -> tuple[int, int]:
    """Width and height in pixels, whatever region of it is kept."""
    render = scene.render
    width = render.resolution_x * render.resolution_percentage // 100
    height = render.resolution_y * render.resolution_percentage // 100
    return max(width, 1), max(height, 1)


def kept_region(scene: bpy.types.Scene) -> tuple[int, int, int, int]:
    """Where the picture's left, right, lower and upper edge are in the whole one, in pixels from
    the lower left."""
    render = scene.render
    width, height = whole_size(scene)
    if not (render.use_border and render.use_crop_to_border):
        return 0, width, 0, height
    # Blender cuts off what is left of a pixel, after it has rounded to 32 bits.
    edges = (
        *(render.border_min_x * width, render.border_max_x * width),
        *(render.border_min_y * height, render.border_max_y * height),
    )
    left, right, low, high = (int(edge) for edge in array("f", edges))
    return left, right, low, high
