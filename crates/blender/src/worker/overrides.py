"""Properties that are changed for one shot, and put back after it."""

from __future__ import annotations

from typing import Any

import bpy


class Overrides:
    """Changes properties and remembers what they were. What already has its value stays
    untouched, because Blender rebuilds what depends on a property that is set."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        before = getattr(owner, name)
        if before != value:
            self._before.append((owner, name, before))
            setattr(owner, name, value)

    def remember(self, owner: Any, *names: str) -> None:
        """For properties that Blender changes along with another one."""
        self._before.extend((owner, name, getattr(owner, name)) for name in names)

    def restore(self) -> bool:
        """Puts everything back, the last change first. False if something could not be, and the
        file has to be opened again."""
        whole = True
        while self._before:
            owner, name, before = self._before.pop()
            try:
                if getattr(owner, name) != before:
                    setattr(owner, name, before)
            except (AttributeError, ReferenceError, RuntimeError, TypeError) as error:
                print(f"could not put {name} back: {error}")
                whole = False
        return whole


def pick(collection: bpy.types.bpy_prop_collection, name: str) -> Any | None:
    """By name; unlike the collection's own look-up also for names that are numbers."""
    return next((one for one in collection if one.name == name), None)
