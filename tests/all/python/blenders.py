"""Stories on farms of real Blenders: `blenders.py STORY SCENE OUTPUT` prints what came of it as
JSON."""

import json
import logging
import sys
import time
from pathlib import Path

import grange


def pool(scene, output):
    """Parts of one animation through a pool."""

    def render(blender, part):
        blender.initialize(scene, output)
        return [frame["file_path"] for frame in blender.render_frames(part)["frames"]]

    with grange.connect() as farm, farm.pool() as calls:
        return calls.map(render, [range(first, 25, 4) for first in range(1, 5)])


def changed(scene, output):
    """Several instances, set before they render; one of them may die meanwhile."""
    warnings = Kept()
    logger = logging.Logger("a test")
    logger.addHandler(warnings)
    with grange.connect() as farm, farm.instances(2) as blenders:
        blenders.with_logger(logger)
        blenders.initialize(scene, output)
        blenders.set_resolution(90, 160)
        blenders.cycles_settings(samples=60)
        blenders.set_current_frame(3)
        frames = blenders.render_animation()["frames"]
    return {"frames": [frame["file_path"] for frame in frames], "said": warnings.messages}


def operations(scene, output):
    """One instance with an extension, a logger and a folder for logs; and 1,000 frames' data."""

    def counted(session, kind):
        session.warn("counted only once")
        print("the extension counts")
        return [one.name for one in session.scene.objects if one.type == kind]

    warnings = Kept()
    logging.getLogger("grange").addHandler(warnings)
    told = {}
    with grange.connect() as farm:
        with farm.instance(log_dir=output / "logs", extensions=[counted]) as blender:
            blender.initialize(scene, output)
            told["counted"] = blender.counted("MESH")
            told["warnings"] = warnings.messages
            began = time.monotonic()
            frames = blender.render_frames(range(1, 1001), dry_run=True)["frames"]
            told["seconds"] = time.monotonic() - began
            told["poses"] = sum(len(frame["transform_matrix"]) == 4 for frame in frames)
            told["paths"] = len({frame["file_path"] for frame in frames})
            try:
                blender.call("set_resolution", heigth=3)
            except TypeError as error:
                told["wrong"] = [str(error), str(error.__cause__)]
        told["logs"] = [path.read_text() for path in (output / "logs").iterdir()]
    return told


def truths(scene, output):
    """A frame with everything that is known of it."""
    with grange.connect() as farm, farm.instance() as blender:
        blender.initialize(scene, output)
        blender.include_depths(debug=True)
        blender.include_flows(codec="PIZ")
        blender.include_composites()
        names = blender.include_segmentations(ids={"Facing": 5, "Cube.B": 300})
        return {"names": names, **blender.render_frame(12)}


def local(scene, output):
    """A farm of this machine, for an animation."""
    with grange.local(instances=1) as farm, farm.instance() as blender:
        blender.initialize(scene, output)
        return len(blender.render_animation()["frames"])


class Kept(logging.Handler):
    """Keeps messages."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))))
