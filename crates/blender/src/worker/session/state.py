"""What a session holds between its calls, and the operations that there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import bpy

Operation = Callable[..., Any]
F = TypeVar("F", bound=Operation)

OPERATIONS: dict[str, Operation] = {}
"""By the name that people call. Each takes the session first, then what the call names."""

LOOKS: set[str] = set()
"""Names of those that change nothing."""


def operation(function: F) -> F:
    """Makes a function one that can be called by its name. It says what it needs by raising
    `ValueError`, `TypeError` or `RuntimeError` with a sentence that says what would have been
    right."""
    OPERATIONS[function.__name__] = function
    return function


def look(function: F) -> F:
    """An operation that changes nothing: what Cycles keeps of the scene stays good."""
    LOOKS.add(function.__name__)
    return operation(function)


@dataclass
class Session:
    """Of one open file, from its opening to its end."""

    path: str
    """Of the file, as this Blender sees it."""
    scratch: str = ""
    """Where the call under way may write; its owner takes all that lies there."""
    truths: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Ground truths that every rendered frame comes with, by kind, each with its options."""
    extensions: dict[str, Operation] = field(default_factory=dict)
    """Operations that the session's owner has sent."""
    muted: set[tuple[str, str, str, int]] = field(default_factory=set)
    """Curves that the file itself has off: action, slot, data path, index."""
    given: tuple[str, str | None] | None = None
    """What this instance is to compute on: Cycles' kind, and the GPU's address on the PCI bus."""
    compute: str | None = None
    """How Cycles is to use it, if a call has chosen: an NVIDIA GPU by CUDA or by OptiX."""
    persistent_data: bool | None = None
    """Whether Cycles keeps its data between frames, if a call has chosen."""
    keyed: set[str] = field(default_factory=set)
    """Names of cameras that the session itself animates."""
    warnings: list[str] = field(default_factory=list)
    """Of the call under way, for people."""

    def warn(self, sentence: str) -> None:
        """Tells the session's owner what an error would be too much for."""
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    @property
    def scene(self) -> bpy.types.Scene:
        return bpy.context.scene

    @property
    def camera(self) -> bpy.types.Object:
        """The camera that renders; a `RuntimeError` if the scene has none."""
        camera = self.scene.camera
        if camera is None:
            raise RuntimeError(
                f"scene `{self.scene.name}` has no camera: set one in Blender and save the file"
            )
        return camera
