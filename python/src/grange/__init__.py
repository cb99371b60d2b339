"""Blender scenes, driven from Python: on a Grange render farm, or on this machine.

    import grange

    with grange.connect() as farm:
        farm.submit("turntable.blend", frames="1-24").fetch("frames")

`connect()` takes a connect string, `local()` starts a farm of this machine, and `is_configured()`
tells whether there is a string to be found. A `Farm` renders whole jobs (`submit`) and lends
Blender instances (`instance`, `instances`, `pool`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._connect import is_configured
from ._request import Shot
from .errors import (
    GrangeError,
    InstanceLost,
    JobFailed,
    MissingFiles,
    NotConnected,
    Refused,
    RemoteTraceback,
)
from .farm import Farm, connect, local
from .jobs import Job, JobProgress, Log, Output, Task

if TYPE_CHECKING:
    from .blender import Blender
    from .instances import Instances
    from .pool import Pool
    from .progress import Progress

__version__ = "0.1.0"
__all__ = [
    "Blender",
    "Farm",
    "GrangeError",
    "InstanceLost",
    "Instances",
    "Job",
    "JobFailed",
    "JobProgress",
    "Log",
    "MissingFiles",
    "NotConnected",
    "Output",
    "Pool",
    "Progress",
    "Refused",
    "RemoteTraceback",
    "Shot",
    "Task",
    "connect",
    "is_configured",
    "local",
]

_LATER = {
    "Blender": "blender",
    "Instances": "instances",
    "Pool": "pool",
    "Progress": "progress",
}
"""Names whose modules are only imported when they are used: submitting a job needs none of them."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LATER[name]}", __name__), name)
