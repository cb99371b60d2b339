# SPDX-License-Identifier: GPL-3.0-or-later
"""Bars for Blenders before 4.0, which draw none but of properties: percentages that show what the
panel that is drawn has put into `fractions`."""

# pyright: reportInvalidTypeForm=false

import bpy
from bpy.props import FloatProperty, PointerProperty

COUNT = 32
"""Bars of a panel."""

fractions = [0.0] * COUNT
"""0 to 1."""


def _bar(number):
    return FloatProperty(
        name="Progress",
        subtype="PERCENTAGE",
        min=0,
        max=100,
        precision=0,
        get=lambda _: 100.0 * fractions[number],
    )


class GRANGE_Bars(bpy.types.PropertyGroup):
    """One property for each."""

    __annotations__ = {f"bar_{number}": _bar(number) for number in range(COUNT)}


CLASSES = (GRANGE_Bars,)


def register():
    bpy.types.WindowManager.grange = PointerProperty(type=GRANGE_Bars)


def unregister():
    del bpy.types.WindowManager.grange
