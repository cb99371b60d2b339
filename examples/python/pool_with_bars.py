"""Many scenes through a pool, with a bar for each that renders and one for all.

    python pool_with_bars.py scenes/*.blend renders

A scene that fails leaves a red bar and the others alone; its error is told at the end.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import grange
from grange.progress import Task


def main() -> None:
    parser = argparse.ArgumentParser(description="Render many scenes at once, with bars.")
    parser.add_argument("scenes", type=Path, nargs="+")
    parser.add_argument("output", type=Path)
    args = parser.parse_args()

    def render(blender: grange.Blender, scene: Path, update: Task) -> None:
        blender.initialize(scene, args.output / scene.stem)
        blender.render_animation(update=update)

    farm = grange.connect() if grange.is_configured() else grange.local()
    with farm, farm.pool() as pool, grange.Progress() as progress:
        results = {
            scene: pool.apply_async(render, (scene, progress.add_task(scene.stem)))
            for scene in args.scenes
        }
        progress.wait()

    failed = False
    for scene, result in results.items():
        try:
            result.get()
        except Exception as error:
            failed = True
            print(f"{scene}: {error}", file=sys.stderr)
    sys.exit(failed)


if __name__ == "__main__":
    main()
