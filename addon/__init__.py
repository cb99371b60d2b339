# SPDX-License-Identifier: GPL-3.0-or-later
"""Grange in Blender: a list of shots, rendered one after the other, each to its own file; here, or
on a render farm.

Works as an add-on in Blender 3.4 to 4.1, and as an extension from 4.2 on.
"""

import bpy

from . import bars, listing, panels, preferences, rendering, running, settings, shots
from .farm import live, operators
from .farm import panels as farm_panels

bl_info = {
    "name": "Grange",
    "author": "The Grange contributors",
    "version": (0, 1, 0),
    "blender": (3, 4, 0),
    "location": "Properties > Output, and the 3D view's sidebar > Grange",
    "description": "Render a list of shots, each to its own file name; here or on a render farm",
    "category": "Render",
}

CLASSES = (
    *bars.CLASSES,
    *shots.CLASSES,
    *listing.CLASSES,
    *rendering.CLASSES,
    *panels.CLASSES,
    *preferences.CLASSES,
    *operators.CLASSES,
    *farm_panels.CLASSES,
)
MODULES = (bars, shots, settings, panels, live)
"""Those that have more to register than classes."""


def register():
    for one in CLASSES:
        bpy.utils.register_class(one)
    for module in MODULES:
        module.register()


def unregister():
    running.unregister()
    for module in reversed(MODULES):
        module.unregister()
    for one in reversed(CLASSES):
        bpy.utils.unregister_class(one)
