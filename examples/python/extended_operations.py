"""Operations of your own: files of Python that run inside Blender, called like all others.

    python extended_operations.py turntable.blend renders/closer --objects Suzanne

Looks for missing textures, then moves the camera until those objects fit in, and renders one frame.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import grange

EXTENSIONS = Path(__file__).parent / "extensions"


def main() -> None:
    parser = argparse.ArgumentParser(description="Call operations of your own.")
    parser.add_argument("scene", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--objects", nargs="+", metavar="NAME", help="[default: all of them]")
    args = parser.parse_args()

    own = [EXTENSIONS / "bounding_box.py", EXTENSIONS / "missing_textures.py"]
    farm = grange.connect() if grange.is_configured() else grange.local()
    with farm, farm.instance(extensions=own) as blender:
        blender.initialize(args.scene, args.output)
        for texture in blender.missing_textures():
            print(f"missing: {texture['image']} at {texture['path']}")

        box = blender.bounding_box(names=args.objects)
        print(f"they lie between {box['min']} and {box['max']}")
        camera = blender.camera_info()
        angle = min(camera["angle_x"], camera["angle_y"])
        distance = math.dist(box["min"], box["max"]) / 2 / math.sin(angle / 2)
        x, y, z = box["center"]
        blender.unbind_camera()
        # From the front and a little above: 3, 4 and 5 are sides of a right triangle.
        place = (x, y - 0.8 * distance, z + 0.6 * distance)
        blender.position_camera(location=place, look_at=box["center"])
        blender.render_current_frame()


if __name__ == "__main__":
    main()
