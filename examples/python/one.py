"""One Blender renders an animation, with a bar.

    python one.py turntable.blend renders/turntable

Renders on the farm that is configured, else on this machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import grange


def main() -> None:
    parser = argparse.ArgumentParser(description="Render an animation with one Blender.")
    parser.add_argument("scene", type=Path)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()

    farm = grange.connect() if grange.is_configured() else grange.local()
    with farm, farm.instance() as blender, grange.Progress() as progress:
        blender.initialize(args.scene, args.output)
        blender.render_animation(update=progress.add_task(args.scene.stem))


if __name__ == "__main__":
    main()
