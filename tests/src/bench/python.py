"""What the Python package costs: its calls, its waiting, and its renders beside `blender -a`.

    python.py TURNTABLE.blend DIR PROGRAM

Runs on a farm of this machine and prints figures as JSON, name → number.
"""

from __future__ import annotations

import json
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grange

CALLS = 2_000
IDLE_S = 20.0
ROUNDS = 3
SCENES = 12
SCENE_FRAMES = 4
SAVE_AS = (
    "import bpy, sys; s = bpy.context.scene; s.frame_start = {first}; s.frame_end = {last}; "
    "bpy.ops.wm.save_as_mainfile(filepath={path!r}, compress=False)"
)


def sleep(seconds: float) -> None:
    """Runs in Blender."""
    import time

    time.sleep(seconds)


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def blender(scene: Path, out: Path, *before: str) -> None:
    command = ["blender", "-b", str(scene), *before, "-o", f"{out}/frame_####", "-a"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def small_scenes(turntable: Path, into: Path) -> list[Path]:
    """The turntable, a few frames each, as files of their own."""
    scenes = []
    for at in range(SCENES):
        path, first = into / f"small_{at:02}.blend", 1 + at
        script = SAVE_AS.format(first=first, last=first + SCENE_FRAMES - 1, path=str(path))
        command = ["blender", "-b", str(turntable), "--python-expr", script]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        scenes.append(path)
    return scenes


def calls(farm: grange.Farm, scene: Path) -> dict[str, float]:
    """One client that calls, and one that waits."""
    with farm.instance(extensions=[sleep]) as client:
        client.initialize(scene)
        took = sorted(timed(client.current_frame) for _ in range(CALLS))
        before, began = cpu_s(), time.perf_counter()
        client.sleep(IDLE_S)
        waiting = 100.0 * (cpu_s() - before) / (time.perf_counter() - began)
    return {
        "python_call_p50_ms": 1e3 * took[CALLS // 2],
        "python_call_p99_ms": 1e3 * took[CALLS * 99 // 100],
        "python_waiting_cpu_percent": waiting,
    }


def one(farm: grange.Farm, scene: Path, out: Path) -> None:
    with farm.instance() as client:
        client.initialize(scene, out)
        client.render_animation()


def two(farm: grange.Farm, scene: Path, out: Path) -> None:
    with farm.instances(2) as clients:
        clients.initialize(scene, out)
        clients.render_animation()


def pool(farm: grange.Farm, scenes: list[Path], out: Path) -> None:
    def render(client: grange.Blender, scene: Path) -> None:
        client.initialize(scene, out / scene.stem)
        client.render_animation()

    with farm.pool() as workers:
        workers.map(render, scenes)


def alone(scenes: list[Path], out: Path) -> None:
    for scene in scenes:
        blender(scene, out / scene.stem)


def main() -> None:
    turntable, home, program = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    small = small_scenes(turntable, home)
    took: dict[str, list[float]] = {}
    with grange.local(program=program, blender=[shutil.which("blender") or "blender"]) as farm:
        figures = calls(farm, turntable)
        ways: dict[str, Callable[[Path], object]] = {
            "24_frames_blender": lambda out: blender(turntable, out),
            "24_frames_one": lambda out: one(farm, turntable, out),
            "24_frames_two": lambda out: two(farm, turntable, out),
            "12_scenes_blender": lambda out: alone(small, out),
            "12_scenes_pool": lambda out: pool(farm, small, out),
        }
        for turn in range(ROUNDS):
            for name, way in ways.items():
                seconds = timed(lambda way=way, out=home / f"{name}_{turn}": way(out))
                took.setdefault(name, []).append(seconds)
                print(f"{name} {seconds:.2f} s", file=sys.stderr)
    for name, seconds in took.items():
        figures[f"python_{name}_s"] = statistics.median(seconds)
    for work, ways in {"24_frames": ("one", "two"), "12_scenes": ("pool",)}.items():
        for way in ways:
            pairs = zip(took[f"{work}_{way}"], took[f"{work}_blender"], strict=True)
            ratio = statistics.median(mine / alone for mine, alone in pairs)
            figures[f"python_{work}_{way}_to_blender_ratio"] = ratio
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
