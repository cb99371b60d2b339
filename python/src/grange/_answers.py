"""Requests on their way and answers as they come: whole, by lines, as server-sent events.

Owns a connection from when a request is sent until its answer has been read or given up. It never
tries again; that is for `_http`.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ._wire import Broken, Connection, Wire, why
from .errors import NotConnected

Body = bytes | Callable[[], Iterator[memoryview]]
"""What is sent: bytes, or what makes the pieces anew for every attempt."""

PIECE = 64 << 10
"""Bytes of a stream in one go."""
LINGER_S = 0.1
"""How long a stream that nobody reads any more may take to end by itself."""
PAUSE_S = 2.0
"""Before events are asked for again, unless the farm says otherwise."""


@dataclass
class Ask:
    """A request."""

    method: str
    target: str
    """Path and query, escaped."""
    headers: str
    """Whole lines."""
    body: Body
    repeat: bool
    """Whether it may be sent again."""

    def send(self, wire: Wire, connection: Connection, timeout_s: float) -> Answer:
        """Sends it and waits for the head of the answer. Raises what `Broken` names."""
        head = (
            f"{self.method} {self.target} HTTP/1.1\r\nHost: {connection.host}\r\n{self.headers}\r\n"
        )
        body = self.body if isinstance(self.body, bytes) else self.body()
        try:
            connection.send(head.encode("ascii"), body, timeout_s)
        except ConnectionError:
            # Who refuses a long body answers before it has come and closes.
            return Answer(wire, connection, connection.answer(self.method))
        return Answer(wire, connection, connection.answer(self.method))


class Answer:
    """An answer whose body is still to be read."""

    def __init__(
        self, wire: Wire, connection: Connection, response: http.client.HTTPResponse
    ) -> None:
        self._wire = wire
        self._connection = connection
        self._response = response
        self.status = response.status

    def header(self, name: str) -> str:
        """A header's value, or nothing."""
        return self._response.getheader(name) or ""

    def retry_after_s(self) -> float:
        """When the farm wants to be asked again: seconds, 1 to 10."""
        told = self.header("Retry-After")
        return min(max(float(told), 1.0), 10.0) if told.isdecimal() else 1.0

    def left(self) -> int | None:
        """Bytes still to come; `None` where the farm did not say."""
        length: int | None = self._response.length
        return length

    def read(self) -> bytes:
        """All of it; the connection is free again."""
        try:
            data = self._response.read()
        except BaseException:
            self.close()
            raise
        self.finish()
        return data

    def piece(self, timeout_s: float) -> bytes:
        """What has come, waiting for it; nothing at the end."""
        self._connection.sock.settimeout(timeout_s)
        return self._response.read1(PIECE)

    def into(self, buffer: memoryview, timeout_s: float) -> int:
        """The next bytes; 0 at the end. Raises `IncompleteRead` if that comes too early."""
        self._connection.sock.settimeout(timeout_s)
        count = self._response.readinto(buffer)
        if not count and self.left():
            raise http.client.IncompleteRead(b"", self.left())
        return count

    def finish(self) -> None:
        """Frees the connection if the body was read to its end, and closes it otherwise."""
        whole = self._response.isclosed() or self.left() == 0
        goes_on = whole and not self._response.will_close
        self._response.close()
        if goes_on:
            self._wire.give_back(self._connection)
        else:
            self._connection.close()

    def close(self) -> None:
        """Gives the answer up, and the connection with it."""
        self._response.close()
        self._connection.close()


def lines_of(answer: Answer, silence_s: float) -> Iterator[bytes]:
    """The lines of an answer, without their ends. Raises `NotConnected` when it breaks."""
    begun: list[bytes] = []
    try:
        while True:
            try:
                piece = answer.piece(silence_s)
            except Broken as error:
                raise NotConnected(
                    f"the farm went silent in the middle of an answer ({why(error)}): ask again"
                ) from error
            if not piece:
                if begun:
                    yield b"".join(begun)
                return
            *whole, rest = piece.split(b"\n")
            if whole:
                whole[0] = b"".join((*begun, whole[0]))
                begun = []
            if rest:
                begun.append(rest)
            yield from whole
    except GeneratorExit:
        _linger(answer)
        raise
    finally:
        answer.finish()


def _linger(answer: Answer) -> None:
    """Reads the end of an answer whose last line was the caller's last, to keep the connection."""
    try:
        while answer.piece(LINGER_S):
            pass
    except Broken:
        pass


@dataclass(frozen=True)
class Event:
    """A server-sent event."""

    data: str
    id: str | None = None
    """Of this event itself; `None` if it has none."""
    event: str = "message"

    def json(self) -> Any:
        """Its data, which are JSON in all events of a farm."""
        return json.loads(self.data)


class Events:
    """Events over several connections, one after another."""

    def __init__(self, last_id: str | None) -> None:
        self.last_id = last_id
        self.pause_s = PAUSE_S

    def of(self, answer: Answer, silence_s: float, until: float | None) -> Iterator[Event]:
        """The events of one answer, until it ends or breaks, or until the time is over."""
        data: list[str] = []
        id: str | None = None
        kind = ""
        for line in _text_lines(answer, silence_s, until):
            if not line:
                if id is not None:
                    self.last_id = id
                if data:
                    yield Event("\n".join(data), id, kind or "message")
                data, id, kind = [], None, ""
                continue
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "data":
                data.append(value)
            elif field == "id" and "\0" not in value:
                id = value
            elif field == "event":
                kind = value
            elif field == "retry" and value.isdecimal():
                self.pause_s = min(int(value) / 1000, 60.0)


def _text_lines(answer: Answer, silence_s: float, until: float | None) -> Iterator[str]:
    """Whole lines of a stream; it ends when the stream ends, breaks, or is silent for too long."""
    begun: list[bytes] = []
    try:
        while True:
            patience = silence_s if until is None else min(silence_s, until - time.monotonic())
            if patience <= 0:
                return
            try:
                piece = answer.piece(patience)
            except Broken:
                return
            if not piece:
                return
            *whole, rest = piece.split(b"\n")
            if whole:
                whole[0] = b"".join((*begun, whole[0]))
                begun = []
            if rest:
                begun.append(rest)
            for line in whole:
                yield line.removesuffix(b"\r").decode("utf-8", "replace")
    finally:
        answer.close()
