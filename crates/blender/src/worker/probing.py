"""Whether an engine can render here, found out by rendering with it.

Without a graphics driver EEVEE and Workbench do not fail but abort the process, so this is asked
of a process that may die.
"""

from __future__ import annotations

import os

import bpy

from worker import host
from worker.link import Link, clip

SIZE = 16
"""Width and height of the picture in pixels."""


def probe(link: Link, engine: str, into: str) -> None:
    """Renders the default cube to a PNG at `into` and answers with the error, if there is one."""
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    scene = bpy.context.scene
    render = scene.render
    error = None
    try:
        render.engine = own_id(engine)
        render.resolution_x = render.resolution_y = SIZE
        render.resolution_percentage = 100
        render.filepath = into
        render.use_file_extension = False
        if engine == "CYCLES":
            scene.cycles.samples = 1
            scene.cycles.use_denoising = host.has_denoiser()
        elif engine.startswith("BLENDER_EEVEE"):
            scene.eevee.taa_render_samples = 1
        bpy.ops.render.render(write_still=True)
        if not os.path.exists(into):
            error = "no picture was written"
    except (RuntimeError, TypeError) as failed:
        error = clip(str(failed))
    link.send("probed", error=error)


def own_id(engine: str) -> str:
    """EEVEE has another id from 4.2 to 4.5."""
    if engine == "BLENDER_EEVEE" and (4, 2) <= bpy.app.version < (5, 0):
        return "BLENDER_EEVEE_NEXT"
    return engine
