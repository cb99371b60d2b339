"""Several Blenders share the frames of one animation: the same program with an "s".

    python several.py turntable.blend renders/turntable --count 2

Every call is made on all of them. Frames go to whoever is free, so a slow host holds nobody up.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import grange


def main() -> None:
    parser = argparse.ArgumentParser(description="Render an animation with several Blenders.")
    parser.add_argument("scene", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--count", type=int, default=2, help="Blenders at most [default: 2]")
    args = parser.parse_args()

    farm = grange.connect() if grange.is_configured() else grange.local()
    with farm, farm.instances(args.count) as blenders, grange.Progress() as progress:
        blenders.initialize(args.scene, args.output)
        blenders.render_animation(update=progress.add_task(args.scene.stem))


if __name__ == "__main__":
    main()
