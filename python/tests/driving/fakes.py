"""A farm without a network: sessions, calls as lines, outputs, and whatever can go wrong."""

from __future__ import annotations

import json
import logging
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grange import pictures
from grange.errors import NotConnected, Refused

QUICKLY_S = 5.0
"""For what has to happen; far more than it takes."""


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int = 5, height: int = 3, rows: int | None = None, interlaced: int = 0) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, interlaced)
    pixels = b"\0" * ((1 + 3 * width) * (height if rows is None else rows))
    if interlaced:
        pixels = b"\0" * pictures.png_bytes(head)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return pictures.PNG + body


class Dies(Exception):
    """Raised by an operation of a test's: the instance is gone."""


@dataclass
class FakeScene:
    """What an upload gives."""

    manifest: str
    blend: str
    needs: dict[str, Any]
    warnings: list[str]
    summary: str


Operation = Callable[..., Any]


@dataclass
class FakeSession:
    """One session, and what its instance was asked."""

    id: int
    body: dict[str, Any]
    farm: FakeFarm
    ended: str | None = None
    placed: bool = False
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list[Any])
    resolution: Any = None
    frame: int = 1
    turn: threading.Lock = field(default_factory=threading.Lock)
    number: int = 0
    """Of the call under way."""

    @property
    def setup(self) -> list[str]:
        """Names of the calls that set something."""
        quiet = {"ping", "render", "frame_files", "camera_info", "poses", "animation_range"}
        return [name for name, _ in self.asked if name not in quiet]

    @property
    def frames(self) -> list[int]:
        """Those that it was asked to render."""
        return [args["frame"] for name, args in self.asked if name == "render"]


class FakeFarm:
    """Farm and connection in one. `places` is how many sessions have an instance at once."""

    def __init__(self, places: int = 2) -> None:
        self.places = places
        self.sessions: list[FakeSession] = []
        self.held: set[int] = set()
        self.files: dict[str, bytes] = {}
        self.changed = threading.Condition()
        self.operations: dict[str, Operation] = {}
        """Of a test's, over those below: (session, **args) -> value."""
        self.broken = 0
        """Answers that will break off before their last line."""
        self.kept: dict[tuple[int, int], list[dict[str, Any]]] = {}
        self.logs: dict[int, list[str]] = {}
        self.room_asked = 0
        self.room_of: set[str] = set()
        """Tags that room was asked of."""

    @property
    def api(self) -> FakeFarm:
        return self

    def room(self, tags: Iterable[str] = ()) -> int:
        with self.changed:
            self.room_asked += 1
            self.room_of.update(tags)
            return max(self.places, 1)

    def _hold(self, session_id: int) -> None:
        self.held.add(session_id)

    def _let_go(self, session_id: int) -> None:
        self.held.discard(session_id)

    @property
    def living(self) -> list[FakeSession]:
        return [one for one in self.sessions if one.ended is None]

    # The connection

    def get(self, path: str, **query: Any) -> Any:
        assert not query
        job = int(path.split("/")[4])
        texts = self.logs.get(job, [])
        return {"items": [{"text": text} for text in texts], "next": None}

    def post(self, path: str, json: Any = None, *, repeat: bool = False) -> Any:
        assert path == "/api/v1/sessions" and repeat
        with self.changed:
            session = FakeSession(len(self.sessions) + 1, json, self)
            self.sessions.append(session)
            self.place()
            return {"id": session.id, "state": "waiting"}

    def delete(self, path: str) -> Any:
        self.end(self.session(path), "it was ended by its client")

    def session(self, path: str) -> FakeSession:
        number = int(path.split("/")[4])
        if number > len(self.sessions):
            raise Refused(404, "urn:grange:not_found", f"there is no session {number}")
        return self.sessions[number - 1]

    def end(self, session: FakeSession, why: str) -> None:
        with self.changed:
            session.ended = session.ended or why
            session.placed = False
            self.place()

    def place(self) -> None:
        for session in self.living:
            if sum(one.placed for one in self.living) < self.places:
                session.placed = True
        self.changed.notify_all()

    def offer(self, places: int) -> None:
        """The farm grows or shrinks."""
        with self.changed:
            self.places = places
            self.place()

    def lines(self, method: str, path: str, json: Any = None) -> Iterator[bytes]:
        assert method == "POST" and path.endswith("/calls")
        for message in self.messages(self.session(path), json):
            if message["is"] in ("returned", "raised") and self.broken > 0:
                self.broken -= 1
                raise NotConnected("the cable was pulled")
            yield line(message)
            yield b""

    def messages(self, session: FakeSession, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        # A generator of its own would not end with its consumer: calls go on without them.
        key = (session.id, body["call"])
        if key in self.kept:
            yield from self.kept[key]
            return
        with self.changed:
            if not session.placed and session.ended is None:
                yield {"is": "waiting", "detail": "every instance is busy"}
                self.changed.wait_for(lambda: session.placed or session.ended is not None)
        with session.turn:
            if session.ended is not None:
                yield {"is": "ended", "message": session.ended}
                return
            session.number = body["call"]
            told: list[dict[str, Any]] = []
            try:
                value = self.perform(session, body["do"], body["args"], told)
                told.append({"is": "returned", "value": value, "warnings": []})
            except Dies as error:
                self.end(session, str(error))
            except Exception as error:
                kind = type(error).__name__
                trace = f"Traceback in Blender\n{kind}: {error}"
                told.append(
                    {"is": "raised", "kind": kind, "message": str(error), "traceback": trace}
                )
            if session.ended is not None:
                told = [one for one in told if one["is"] in ("output", "progress")]
                told.append({"is": "ended", "message": session.ended})
            self.kept[key] = told
        yield from told

    def download(self, api_path: str, to: Path, length: int | None) -> None:
        data = self.files[api_path]
        assert length == len(data)
        part = to.with_name(f".{to.name}.{threading.get_ident()}")
        part.write_bytes(data)
        part.replace(to)

    # The instances

    def perform(
        self, session: FakeSession, name: str, args: dict[str, Any], told: list[dict[str, Any]]
    ) -> Any:
        session.asked.append((name, args))
        own = self.operations.get(name)
        if own and name != "render":
            return own(session, **args)
        if name in DO:
            return DO[name](session, args)
        if name != "render":
            return None
        seconds = (own(session, **args) if own else None) or 0.01
        told.append({"is": "progress", "fraction": 0.5, "sample": 1, "samples": 2})
        self.output(session, f"{args['name']}.png", png(), told)
        data = {"transform_matrix": pose(args["frame"])}
        return {"width": 5, "height": 3, "seconds": seconds, "warnings": [], "data": data}

    def output(
        self, session: FakeSession, name: str, data: bytes, told: list[dict[str, Any]]
    ) -> None:
        name = f"{session.number}/{name}"
        self.files[f"/jobs/{session.id}/outputs/{name}"] = data
        told.append({"is": "output", "name": name, "hash": "00", "len": len(data)})


def line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode()


def pose(frame: int) -> list[list[float]]:
    return [
        [1.0, 0.0, 0.0, float(frame)],
        [0.0, 1.0, 0.0, 0.0],
        [0.0, 0.0, 1.0, 0.0],
        [0.0] * 3 + [1.0],
    ]


DO: dict[str, Callable[[FakeSession, dict[str, Any]], Any]] = {
    "camera_info": lambda session, _: {"w": 5, "h": 3, "fl_x": 7.0, "frame": session.frame},
    "poses": lambda _, args: [pose(frame) for frame in args["frames"]],
    "frame_files": lambda _, args: {"file_path": f"frames/frame_{args['number']}.png"},
    "animation_range": lambda _, __: [1, 5, 1],
    "current_frame": lambda session, _: session.frame,
    "set_current_frame": lambda session, args: setattr(session, "frame", args["frame"]),
    "extend": lambda _, args: [args["name"]],
    "echo": lambda _, args: args,
    "cycles_settings": lambda session, _: [f"GPU of {session.id}"],
}


def upload(api: Any, path: Path, *, allow_missing: bool = False) -> FakeScene:
    """A scene is its name."""
    assert isinstance(api, FakeFarm) and allow_missing in (True, False)
    return FakeScene(f"hash of {path}", f"/{path}", {"engines": ["cycles"]}, [], "")


def quiet() -> logging.Logger:
    """A logger whose messages nobody sees."""
    logger = logging.getLogger("grange.tests")
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    return logger
