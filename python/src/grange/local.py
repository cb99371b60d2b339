"""A farm of this machine: the program `grange local`, started and stopped from here.

Owns that process. Its standard input is a pipe that nobody writes to: when this process ends, in
whatever way, the pipe closes and the farm stops. It runs in a session of its own, so that Ctrl-C in
a terminal reaches only Python, which may still want to cancel something.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from ._connect import Connect
from .errors import GrangeError, NotConnected

VARIABLE = "GRANGE_PROGRAM"
START_S = 180.0
"""For the farm to try its Blenders; a first start on a slow disk takes a while."""
STOP_S = 20.0
"""For the farm to end its Blenders, before it is killed."""

StrPath = str | os.PathLike[str]


class Local:
    """A running farm of this machine."""

    def __init__(self, command: Sequence[str], log: StrPath | None = None) -> None:
        """Starts it and waits until it can be used.

        Raises `NotConnected` with what the program said if it does not start.
        """
        self._pid = os.getpid()
        with _log(log) as said:
            start = said.tell()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                bufsize=0,
                start_new_session=True,
            )
            _running.add(self)
            try:
                self.connect = self._connect_string()
            except BaseException as error:
                self.close()
                if not isinstance(error, ValueError | KeyError):
                    raise
                said.seek(start)
                why = said.read().decode(errors="replace").strip()
                raise NotConnected(_not_started(command[0], why)) from None

    def close(self) -> None:
        """Stops it, and every Blender of it. A child made by a fork only lets go of it."""
        stdin = self._process.stdin
        if stdin is not None:
            stdin.close()
        if self._pid != os.getpid():
            return
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            if self._process.stdout is not None:
                self._process.stdout.close()
            _running.discard(self)

    def is_over(self) -> bool:
        """Whether the program has ended, however it did."""
        return self._process.poll() is not None

    def let_go(self) -> None:
        """In a child made by a fork: the pipe is the parent's alone."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _connect_string(self) -> Connect:
        """What the program prints. Raises `ValueError` or `KeyError` if that is something else."""
        too_slow = threading.Timer(START_S, self._process.kill)
        too_slow.start()
        try:
            stdout = self._process.stdout
            # Unbuffered, so a line may come in parts.
            line = b""
            while stdout is not None and not line.endswith(b"\n"):
                piece = os.read(stdout.fileno(), 4096)
                if not piece:
                    break
                line += piece
            told: Any = json.loads(line)
            return Connect.parse(str(told["connect"]))
        finally:
            too_slow.cancel()


def command(
    *,
    instances: int | None,
    blender: StrPath | Sequence[StrPath] | None,
    sandbox: bool | None,
    memory_gib: float | None,
    program: StrPath | None,
) -> list[str]:
    """The command line of a local farm. Raises `GrangeError` if there is no program."""
    words = [find_program(program), "--json", "local", "--until-stdin-closes"]
    if instances is not None:
        if instances < 1:
            raise ValueError(f"`instances` is {instances}: a farm runs at least 1")
        words += ["--instances", str(instances)]
    if blender is not None:
        paths = [blender] if isinstance(blender, str | os.PathLike) else list(blender)
        words += ["--blender", ",".join(os.fspath(path) for path in paths)]
    if sandbox is not None:
        words += ["--sandbox", "on" if sandbox else "off"]
    if memory_gib is not None:
        words += ["--memory-gib", str(memory_gib)]
    return words


def find_program(program: StrPath | None = None) -> str:
    """The program `grange`: this one, else `GRANGE_PROGRAM`, else on the PATH.

    Raises `GrangeError` if it is nowhere.
    """
    told = os.fspath(program) if program is not None else os.environ.get(VARIABLE)
    found = shutil.which(told or "grange")
    if found:
        return found
    what = f"there is no program at {told}" if told else "the program `grange` is not on the PATH"
    raise GrangeError(
        f"{what}: build it with `cargo build --release` and name it with {VARIABLE} or `program=`"
    )


def _log(log: StrPath | None) -> IO[bytes]:
    if log is None:
        return tempfile.TemporaryFile(prefix="grange-local-")
    path = Path(log)
    path.parent.mkdir(parents=True, exist_ok=True)
    return open(path, "ab+")


def _not_started(program: str, why: str) -> str:
    said = f": {why}" if why else f"; run `{program} local` in a terminal to see why"
    return f"the farm of this machine did not start{said}"


_running: weakref.WeakSet[Local] = weakref.WeakSet()


def _after_fork() -> None:
    for local in list(_running):
        local.let_go()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
