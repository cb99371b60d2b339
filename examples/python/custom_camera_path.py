"""A data set: the camera goes around the scene, and every frame comes with depth and segmentation.

    python custom_camera_path.py turntable.blend renders/orbit --frames 24 --radius 8.5 --height 3.4

Besides the files there is `transforms.json`, with the intrinsics and every frame's pose, and
`segmentation.json`, which says which object has which number.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import grange
from grange.dataset import write_transforms


def main() -> None:
    parser = argparse.ArgumentParser(description="Render a data set from around a scene.")
    parser.add_argument("scene", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--frames", type=int, default=24, help="of one turn [default: 24]")
    parser.add_argument("--radius", type=float, default=8.5, help="of the circle [default: 8.5]")
    parser.add_argument("--height", type=float, default=3.4, help="of the camera [default: 3.4]")
    args = parser.parse_args()

    farm = grange.connect() if grange.is_configured() else grange.local()
    with farm, farm.instance() as blender, grange.Progress() as progress:
        blender.initialize(args.scene, args.output)
        blender.unbind_camera()
        for frame in range(1, args.frames + 1):
            angle = 2 * math.pi * (frame - 1) / args.frames
            x, y = args.radius * math.sin(angle), -args.radius * math.cos(angle)
            blender.position_camera(location=(x, y, args.height), look_at=(0, 0, 1))
            blender.set_camera_keyframe(frame)
        blender.set_animation_range(1, args.frames + 1)
        blender.include_depths(debug=True)
        names = blender.include_segmentations(debug=True)
        transforms = blender.render_animation(update=progress.add_task("orbit"))

    write_transforms(args.output, transforms)
    (args.output / "segmentation.json").write_text(json.dumps(names, indent=2), "utf-8")


if __name__ == "__main__":
    main()
