"""Many scenes through a pool that is as big as the farm.

    python pool_simple.py scenes/*.blend renders

Each scene gets a folder of its name. The function runs here, in threads; only
Blender is elsewhere.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import grange


def main() -> None:
    parser = argparse.ArgumentParser(description="Render many scenes at once.")
    parser.add_argument("scenes", type=Path, nargs="+")
    parser.add_argument("output", type=Path)
    args = parser.parse_args()

    def render(blender: grange.Blender, scene: Path) -> int:
        blender.initialize(scene, args.output / scene.stem)
        return len(blender.render_animation()["frames"])

    farm = grange.connect() if grange.is_configured() else grange.local()
    with farm, farm.pool() as pool:
        counts = pool.map(render, args.scenes)
    for scene, count in zip(args.scenes, counts, strict=True):
        print(f"{scene.stem}: {count} frames")


if __name__ == "__main__":
    main()
