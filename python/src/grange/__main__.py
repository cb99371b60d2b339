"""`python -m grange`: rendering from a terminal, on the configured farm or on this machine.

| exit code | meaning |
| --- | --- |
| 0 | done; of a render: every frame is in the folder |
| 1 | not done: the reason is on standard error |
| 2 | the command line makes no sense |
| 3 | the farm cannot be reached |
| 130 | canceled with Ctrl-C |
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from . import _connect
from .errors import GrangeError, JobFailed, NotConnected
from .farm import Farm, connect, local
from .jobs import Job

DONE, NOT_DONE, WRONG, UNREACHABLE, CANCELED = 0, 1, 2, 3, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what a command line says, and returns the exit code.

    Raises `SystemExit` (2) for one that makes no sense.
    """
    args = _parser().parse_args(arguments)
    said = Console(stderr=True)
    try:
        return _render(args, said) if args.command == "render" else _jobs(args)
    except NotConnected as error:
        said.print(f"grange: {error}", markup=False, soft_wrap=True)
        return UNREACHABLE
    except ValueError as error:
        said.print(f"grange: {error}", markup=False, soft_wrap=True)
        return WRONG
    except (GrangeError, OSError) as error:
        said.print(f"grange: {error}", markup=False, soft_wrap=True)
        return NOT_DONE
    except KeyboardInterrupt:
        return CANCELED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m grange",
        description="Render Blender scenes on a farm, or on this machine where none is configured.",
        epilog="Exit codes: 0 done, 1 not done, 2 wrong command line, 3 no farm, 130 canceled",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument(
        "--connect",
        metavar="STRING",
        help=f"the farm [default: {_connect.VARIABLE}, else {_connect.file()}]",
    )
    render = commands.add_parser("render", parents=[where], help="render a scene to a folder")
    render.add_argument("scene", type=Path, metavar="SCENE.blend")
    render.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    render.add_argument(
        "-f", "--frames", metavar="FRAMES", help="47, 1-24, 1-100x4 [default: the scene's]"
    )
    render.add_argument(
        "--jobs",
        type=_count,
        metavar="auto|N",
        help="render on this machine, N frames at once on each device [default: auto]",
    )
    render.add_argument("--scene", dest="of_scene", metavar="NAME", help="the scene in the file")
    render.add_argument("--camera", metavar="NAME", help="render with this camera")
    render.add_argument("--view-layer", metavar="NAME", help="render this view layer alone")
    render.add_argument("--resolution", metavar="WxH", help="pixels, such as 1920x1080")
    render.add_argument("--samples", type=int, metavar="N", help="per pixel")
    render.add_argument("--preview", action="store_true", help="make a video too")
    render.add_argument(
        "--allow-missing", action="store_true", help="go on although files are missing"
    )
    render.add_argument("--blender", metavar="PATH", help="the Blender of a farm of this machine")
    render.add_argument(
        "--no-sandbox",
        action="store_true",
        help="on this machine: let the scene see all of it",
    )
    commands.add_parser("jobs", parents=[where], help="list the farm's jobs")
    return parser


def _count(text: str) -> int:
    """Instances; 0 for as many as are best."""
    if text == "auto":
        return 0
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"`{text}` is neither `auto` nor a number of at least 1")


def _farm(args: argparse.Namespace) -> Farm:
    """The farm that is meant; one of this machine where none is, or where `--jobs` asks for it."""
    here = args.jobs is not None or not _connect.is_configured()
    if args.connect is not None or not here:
        return connect(args.connect)
    return local(
        instances=args.jobs or None,
        blender=args.blender,
        sandbox=False if args.no_sandbox else None,
    )


def _render(args: argparse.Namespace, said: Console) -> int:
    if not args.scene.is_file():
        raise ValueError(f"there is no file {args.scene}: name a .blend file")
    with _farm(args) as farm, _bars(said) as bars:
        job = _submit(args, farm, bars, said)
        frames = bars.add_task(f"job {job.id}", total=None)

        def update(*, total: float, completed: float) -> None:
            bars.update(frames, total=total, completed=completed)

        try:
            saved = job.fetch(args.output, update)
        except KeyboardInterrupt:
            _cancel(job, said)
            return CANCELED
        except JobFailed as error:
            said.print(f"grange: {error}", markup=False, soft_wrap=True)
            return CANCELED if error.state == "canceled" else NOT_DONE
    said.print(f"{len(saved)} files in {args.output}", markup=False, highlight=False)
    return DONE


def _submit(args: argparse.Namespace, farm: Farm, bars: Progress, said: Console) -> Job:
    sending: TaskID = bars.add_task("sending", total=None)

    def on_bytes(done: int, total: int) -> None:
        bars.update(sending, total=total, completed=done)

    try:
        return farm.submit(
            args.scene,
            frames=args.frames,
            scene=args.of_scene,
            camera=args.camera,
            view_layer=args.view_layer,
            resolution=args.resolution,
            samples=args.samples,
            preview=args.preview,
            allow_missing=args.allow_missing,
            on_bytes=on_bytes,
            on_warning=lambda warning: said.print(warning, markup=False, soft_wrap=True),
        )
    finally:
        bars.remove_task(sending)


def _cancel(job: Job, said: Console) -> None:
    said.print(f"canceling job {job.id}", highlight=False)
    job.cancel()


def _bars(said: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=said,
    )


def _jobs(args: argparse.Namespace) -> int:
    table = Table(box=None, pad_edge=False)
    for name in ("JOB", "NAME", "STATE", "PRIO", "DONE", "FRAMES", "BY"):
        table.add_column(name, justify="right" if name in {"JOB", "PRIO", "DONE"} else "left")
    with connect(args.connect) as farm:
        for job in farm.jobs():
            progress = job.progress
            table.add_row(
                str(job.id),
                job.name,
                job.state,
                str(job.priority),
                f"{progress.fraction:.0%}",
                f"{progress.frames_done}/{progress.frames_total}",
                job.submitter,
            )
    Console().print(table)
    return DONE


if __name__ == "__main__":
    sys.exit(main())
