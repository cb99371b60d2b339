"""Stories on farms of fake Blenders: `fakes.py STORY SCENE OUTPUT` prints what came of it as JSON.

A fake's scene is TOML, which no farm can read for what it needs. So it is sent here as it is.
"""

import json
import sys
import threading
import time
from pathlib import Path

import grange
from grange import _scene

NEEDS = {"saved_by": {"major": 4, "minor": 2}, "engines": ["cycles"]}
CALLS = 8
LONG_S = 60.0
"""For what has to happen; far more than it takes."""


def upload(api, path, **_):
    blob = api.upload(path)
    entries = [{"path": str(path), "blob": blob.hash, "len": blob.len}]
    manifest = api.post("/manifests", entries, repeat=True)["hash"]
    return _scene.Scene(manifest, str(path), NEEDS, [], {})


def pool(scene, output):
    """A call for each of a few numbers, which renders an animation into a folder of its own."""
    made, told = [], []

    def render(blender, number):
        made.append(number)
        blender.initialize(scene, output / str(number))
        return [number, len(blender.render_animation()["frames"])]

    with grange.connect() as farm, farm.pool() as calls:
        results = [
            calls.apply_async(render, (number,), callback=told.append) for number in range(CALLS)
        ]
    return {"made": made, "told": told, "results": [result.get(0) for result in results]}


def in_order(scene, output):
    """In which order calls of one scene end on a farm with room for one of them."""
    ended = []

    def render(blender, number):
        blender.initialize(scene, output / str(number))
        blender.render_animation()
        ended.append(number)

    with grange.connect() as farm, farm.pool() as calls:
        calls.map(render, range(CALLS))
    return ended


def tagged(scene, output):
    """A pool on hosts with a tag, and for how many calls there is room."""

    def render(blender, number):
        blender.initialize(scene, output / str(number))
        blender.render_animation()

    with grange.connect() as farm:
        with farm.pool(tags=["big"]) as calls:
            calls.map(render, range(CALLS))
        return {"all": farm.room(), "big": farm.room(["big"])}


def failing(scene, output):
    """A pool with bars of which one call fails, and one does so for want of an operation."""
    with grange.connect() as farm, grange.Progress() as progress:

        def render(blender, name, update):
            blender.initialize(scene, output / name)
            if name == "wrong":
                blender.call("fly")
            if name == "mine":
                raise KeyError(name)
            blender.render_animation(update=update)
            return name

        names = ["one", "wrong", "two", "mine", "three"]
        with farm.pool() as calls:
            results = {
                name: calls.apply_async(render, (name, progress.add_task(name))) for name in names
            }
            waited = progress.wait(LONG_S)
            done = [name for name, result in results.items() if result.ready()]
        states = {task.description: task.state for task in progress.tasks}
    errors = {}
    for name, result in results.items():
        try:
            result.get(0)
        except Exception as error:
            errors[name] = [type(error).__name__, str(error), str(error.__cause__)]
    return {"waited": waited, "done": done, "states": states, "errors": errors}


def more_than_frames(scene, output):
    """Four instances for two frames, on a farm that has room for two of them."""
    with grange.connect() as farm, farm.instances(4) as blenders:
        blenders.initialize(scene, output)
        return [frame["file_path"] for frame in blenders.render_animation()["frames"]]


def empty_file(scene, output):
    """What is rendered when files of finished frames are there: whole, empty, half, and gone."""
    advanced = []

    def update(**news):
        advanced.append(news.get("advance", 0))

    with grange.connect() as farm, farm.instance() as blender:
        blender.initialize(scene, output)
        first = blender.render_animation()
        paths = [output / frame["file_path"] for frame in first["frames"]]
        kept = [path.read_bytes() for path in paths]
        paths[1].write_bytes(b"")
        paths[2].write_bytes(kept[2][: len(kept[2]) // 2])
        paths[3].unlink()
        times = [path.stat().st_mtime_ns for path in paths[:1]]
        again = blender.render_animation(update=update)
        return {
            "session": blender.session_info()["id"],
            "same": again == first and [path.read_bytes() for path in paths] == kept,
            "untouched": times == [path.stat().st_mtime_ns for path in paths[:1]],
            "advanced": advanced,
        }


def two_hosts(scene, output):
    """Frames over two instances, which both are there before the first frame is handed out."""
    with grange.connect() as farm, farm.instances(2) as blenders:
        blenders.initialize(scene, output)
        deadline = time.monotonic() + LONG_S
        while blenders.ready_count() < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        ready = blenders.ready_count()
        return {"ready": ready, "frames": len(blenders.render_animation()["frames"])}


def deadly(scene, output):
    """An animation with a frame that no instance survives."""
    told = {}
    with grange.connect() as farm:
        for name, count in (("one", None), ("several", 2)):
            got = farm.instance() if count is None else farm.instances(count)
            with got as blender:
                blender.initialize(scene, output / name)
                try:
                    blender.render_animation()
                except grange.InstanceLost as lost:
                    told[name] = str(lost)
        with farm.pool() as calls:

            def render(blender):
                blender.initialize(scene, output / "pool")
                blender.render_animation()

            try:
                calls.apply(render)
            except grange.InstanceLost as lost:
                told["pool"] = str(lost)
    return told


def left(scene, output):
    """A pool that is left by an exception; its calls end with it."""
    began = threading.Event()

    def render(blender):
        blender.initialize(scene, output)
        began.set()
        blender.render_animation()

    try:
        with grange.connect() as farm, farm.pool() as calls:
            result = calls.apply_async(render)
            began.wait(LONG_S)
            raise LookupError("enough")
    except LookupError as error:
        try:
            result.get(0)
        except grange.GrangeError as ended:
            return [str(error), str(ended)]
    return None


if __name__ == "__main__":
    _scene.upload = upload
    print(json.dumps(globals()[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))))
