# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's preferences, and the files that it keeps for its user."""

# pyright: reportInvalidTypeForm=false

from __future__ import annotations

import contextlib
import os
from typing import Any

import bpy
from bpy.props import BoolProperty, EnumProperty, IntProperty

PRIORITY = 50
POLL_S = 3
SECRET = 0o600


class GRANGE_Preferences(bpy.types.AddonPreferences):
    """How this user works with farms."""

    bl_idname = __package__

    listening: EnumProperty(
        name="Progress",
        description="How the farm's news come",
        items=[
            ("STREAM", "Stream", "The farm tells whatever happens at once"),
            ("POLL", "Poll", "The farm is asked now and then, for networks that allow no streams"),
        ],
        default="STREAM",
    )
    poll_s: IntProperty(
        name="Every",
        description="Seconds between two questions",
        default=POLL_S,
        min=1,
        max=60,
        subtype="TIME_ABSOLUTE" if bpy.app.version >= (4, 0) else "TIME",
    )
    priority: IntProperty(
        name="Priority",
        description="Of new jobs: 0 is last, 100 is first",
        default=PRIORITY,
        min=0,
        max=100,
    )
    autosave: BoolProperty(
        name="Save the File Before",
        description="Save the .blend file whenever it is sent to the farm. What is sent has all "
        "changes in any case",
        default=False,
    )

    def draw(self, context: bpy.types.Context) -> None:
        from .farm import panels

        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        panels.draw_farm(layout, context)
        layout.prop(self, "listening", expand=True)
        every = layout.row()
        every.active = self.listening == "POLL"
        every.prop(self, "poll_s")
        layout.prop(self, "priority", slider=True)
        layout.prop(self, "autosave")


def get() -> Any:
    """The preferences, or None for an add-on that runs from its source and has none."""
    addon = bpy.context.preferences.addons.get(__package__)
    return addon.preferences if addon else None


def priority() -> int:
    """Of new jobs."""
    own = get()
    return own.priority if own else PRIORITY


def autosaves() -> bool:
    own = get()
    return bool(own and own.autosave)


def poll_s() -> float | None:
    """Seconds between two questions to the farm, or None to listen to it."""
    own = get()
    return float(own.poll_s) if own and own.listening == "POLL" else None


def is_online() -> bool:
    """Whether the user lets add-ons use the network, which they are asked since 4.2."""
    return getattr(bpy.app, "online_access", True)


def path(name: str) -> str:
    """Of a file of the user's, in a folder that need not be there yet."""
    with contextlib.suppress(AttributeError, ValueError):
        # Only for extensions, and only since 4.2.
        return os.path.join(bpy.utils.extension_path_user(__package__), name)
    return os.path.join(bpy.utils.user_resource("CONFIG"), "grange", name)


def connect_string() -> str | None:
    """The farm that the user has signed in to, or None."""
    try:
        with open(path("connect"), encoding="utf-8") as file:
            return file.read().strip() or None
    except OSError:
        return None


def keep_connect_string(connect: str | None) -> None:
    """For the next time, readable by the user alone; None forgets it. Raises `OSError`."""
    file = path("connect")
    if connect is None:
        with contextlib.suppress(FileNotFoundError):
            os.remove(file)
        return
    os.makedirs(os.path.dirname(file), exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.remove(file)
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, SECRET), "w") as opened:
        opened.write(connect)


CLASSES = (GRANGE_Preferences,)
