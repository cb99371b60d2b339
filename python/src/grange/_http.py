"""The HTTP API of a farm: requests that survive broken connections, and refusals as exceptions.

Owns what may be sent twice, how long to go on trying, and the forms of answers: JSON, lines, events
and files. Knows nothing of jobs and sessions. One `Api` serves any number of threads; a child made
by `os.fork` may go on using it.

A path is that of `docs/http-api.md`; `/api/v1` is put before it where it is left out.
"""

from __future__ import annotations

import json as json_
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode

from ._answers import Answer, Ask, Body, Event, Events, lines_of
from ._connect import Connect
from ._hashes import Hashes, Identity
from ._wire import Broken, Wire, why
from .errors import GrangeError, NotConnected, Refused

Json = Any
"""What `json.loads` gives."""
OnBytes = Callable[[int, int], None]
"""Told of a transfer: bytes done, bytes in all."""

ANSWER_S = 60.0
"""For an answer to begin; a farm gives up after 30 s itself."""
PATIENCE_S = 30.0
"""How long a request is tried again while the farm is away or busy."""
EVENTS_PATIENCE_S = 300.0
"""The same for somebody who only listens."""
SILENCE_S = 30.0
"""Lines come at least every 10 s, events every 15 s; after so long without any the farm is gone."""
PIECE = 256 << 10
"""Bytes of a file in one go."""
PARTS_MIN = 4 << 20
"""Files of more bytes go on where their connection broke; the others are one request."""
UPLOADS = 4
"""Files on their way to a farm at once."""


@dataclass(frozen=True)
class Blob:
    """A file that the farm has."""

    hash: str
    """BLAKE3, 64 hexadecimal digits."""
    len: int
    """Bytes."""


class Api:
    """A farm's HTTP API. Every method may raise `NotConnected` and `Refused`."""

    def __init__(self, connect: Connect, *, hashes: Hashes | None = None) -> None:
        self.connect = connect
        self.hashes = hashes or Hashes()
        self.is_gone: Callable[[], bool] = lambda: False
        """Whether the farm is known to be gone for good, so that waiting for it makes no sense."""
        self._wire = Wire(connect)
        self._common = f"Authorization: Bearer {connect.token}\r\nUser-Agent: grange-python\r\n"

    def get(self, path: str, **query: object) -> Json:
        """The answer to a GET. Query values of `None` are left out."""
        return self._json(self._ask("GET", path, query=query))

    def post(
        self,
        path: str,
        json: Json = None,
        headers: Mapping[str, str] | None = None,
        *,
        repeat: bool = False,
    ) -> Json:
        """The answer to a POST.

        With `repeat`, or with an `Idempotency-Key` among the headers, it may be sent again when the
        connection breaks or the farm is busy; otherwise that is an error, because nobody knows
        whether the farm did it.
        """
        return self._json(self._ask("POST", path, json=json, headers=headers, repeat=repeat))

    def put(self, path: str, json: Json = None) -> Json:
        """The answer to a PUT, which may be sent again."""
        return self._json(self._ask("PUT", path, json=json, repeat=True))

    def delete(self, path: str) -> Json:
        """The answer to a DELETE, which may be sent again."""
        return self._json(self._ask("DELETE", path, repeat=True))

    def lines(
        self, method: str, path: str, json: Json = None, *, repeat: bool = True
    ) -> Iterator[bytes]:
        """The lines of an answer as they come, without their ends; empty ones are signs of life.

        Raises `NotConnected` if the connection breaks in the middle, or after 30 s of silence. With
        `repeat`, the request may be sent again as long as no answer has begun.
        """
        ask = self._ask(method, path, json=json, repeat=repeat)
        ask.headers += "Accept: application/x-ndjson, application/problem+json\r\n"
        return lines_of(self._open(ask), SILENCE_S)

    def events(
        self,
        path: str,
        last_event_id: str | None = None,
        *,
        until: float | None = None,
        **query: object,
    ) -> Iterator[Event]:
        """Server-sent events, for as long as the farm lives and the caller listens.

        When the connection breaks it is made anew, with the id of the last event that had one. Ends
        by itself at `until` (of `time.monotonic()`). Raises `NotConnected` after five minutes
        without a farm.
        """
        ask = self._ask("GET", path, query=query)
        common = ask.headers + "Accept: text/event-stream\r\n"
        events = Events(last_event_id)
        while True:
            last = events.last_id
            ask.headers = common + (f"Last-Event-ID: {checked(last)}\r\n" if last else "")
            left = EVENTS_PATIENCE_S if until is None else until - time.monotonic()
            if left <= 0:
                return
            try:
                answer = self._open(ask, patience_s=min(left, EVENTS_PATIENCE_S))
            except NotConnected:
                if until is not None and time.monotonic() >= until:
                    return
                raise
            yield from events.of(answer, SILENCE_S, until)
            left = events.pause_s if until is None else until - time.monotonic()
            time.sleep(max(0.0, min(left, events.pause_s)))

    def missing(self, hashes: Sequence[str]) -> set[str]:
        """Those of these files that the farm lacks."""
        if not hashes:
            return set()
        return set(self.post("/blobs/missing", {"hashes": list(hashes)}, repeat=True)["missing"])

    def upload(self, path: Path, on_bytes: OnBytes | None = None) -> Blob:
        """Sends a file, unless the farm has it and it has not changed since it was last sent.

        Raises `OSError` if the file cannot be read.
        """
        identity = Identity.of(path)
        known = self.hashes.get(identity)
        if known and not self.missing([known]):
            if on_bytes:
                on_bytes(identity.size, identity.size)
            return Blob(known, identity.size)
        return self._send_file(path, known, on_bytes)

    def upload_all(self, paths: Sequence[Path], on_bytes: OnBytes | None = None) -> list[Blob]:
        """Sends files like `upload`, several at once, and asks only once which are there."""
        identities = [Identity.of(path) for path in paths]
        known = [self.hashes.get(identity) for identity in identities]
        missing = self.missing(sorted({hash for hash in known if hash}))
        tally = _Tally(sum(identity.size for identity in identities), on_bytes)

        def one(at: int) -> Blob:
            hash, size = known[at], identities[at].size
            if hash and hash not in missing:
                tally.of(at)(size, size)
                return Blob(hash, size)
            return self._send_file(paths[at], hash, tally.of(at))

        with ThreadPoolExecutor(UPLOADS) as pool:
            return list(pool.map(one, range(len(paths))))

    def upload_bytes(self, data: bytes) -> Blob:
        """Sends bytes as a file."""
        told = self._json(self._ask("POST", "/blobs", body=data, repeat=True))
        return Blob(told["hash"], told["len"])

    def download(
        self,
        api_path: str,
        to: Path,
        length: int | None = None,
        on_bytes: OnBytes | None = None,
    ) -> None:
        """Saves a file of the farm, replacing what is there.

        The bytes go to a temporary file in the same directory, which must exist, and get their name
        when they are all there; where the connection breaks, the rest is asked for. `length` is how
        many bytes there must be. Raises `OSError` if the file cannot be written.
        """
        part = to.with_name(f".{to.name[:80]}.{secrets.token_hex(4)}.part")
        with open(part, "xb", buffering=0) as file:
            try:
                self._receive(api_path, file.fileno(), length, on_bytes)
                os.replace(part, to)
            except BaseException:
                part.unlink(missing_ok=True)
                raise

    def close(self) -> None:
        """Closes the connections. What is asked afterwards raises `NotConnected`."""
        self._wire.close()

    def abort(self) -> None:
        """Closes the connections, also those in use: whoever waits for one gets `NotConnected`."""
        self._wire.abort()

    def __enter__(self) -> Api:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        json: Json = None,
        body: Body | None = None,
        length: int | None = None,
        kind: str = "application/octet-stream",
        headers: Mapping[str, str] | None = None,
        repeat: bool = False,
    ) -> Ask:
        target = path if path.startswith("/api/") else f"/api/v1{path}"
        # What is escaped already stays as it is.
        target = quote(target, safe="/%:@!$&'()*+,;=~")
        told = {key: value for key, value in (query or {}).items() if value is not None}
        if told:
            target += "?" + urlencode(told)
        lines = self._common
        for key, value in (headers or {}).items():
            lines += f"{checked(key)}: {checked(value)}\r\n"
            repeat = repeat or key.lower() == "idempotency-key"
        if body is not None:
            lines += f"Content-Type: {kind}\r\n"
        elif json is not None:
            body = json_.dumps(json, separators=(",", ":")).encode()
            lines += "Content-Type: application/json\r\n"
        else:
            body = b""
        if isinstance(body, bytes):
            length = len(body)
        if method != "GET":
            lines += f"Content-Length: {length or 0}\r\n"
        return Ask(method, target, lines, body, repeat or method == "GET")

    def _json(self, ask: Ask) -> Json:
        patience = _Patience(PATIENCE_S)
        while True:
            answer = self._open(ask)
            try:
                data = answer.read()
            except Broken as error:
                patience.again_after(error, ask.repeat)
                continue
            return _parsed(ask, data)

    def _open(self, ask: Ask, *, patience_s: float = PATIENCE_S) -> Answer:
        """An answer that is no refusal, before its body was read."""
        patience = _Patience(patience_s)
        while True:
            try:
                connection = self._wire.take()
            except NotConnected as error:
                # Nothing was sent. A farm that was never there will not be there soon.
                hope = self._wire.met and not self._wire.closed and not self.is_gone()
                patience.again_after(error, hope)
                continue
            try:
                answer = ask.send(self._wire, connection, ANSWER_S)
            except Broken as error:
                connection.close()
                patience.again_after(error, ask.repeat, at_once=not connection.fresh)
                continue
            except BaseException:
                connection.close()
                raise
            if answer.status < 400:
                return answer
            try:
                refused = _refused(answer.status, answer.read())
            except Broken:
                refused = _refused(answer.status, b"")
            if answer.status != 503 or not ask.repeat:
                raise refused
            patience.again_after(refused, True, pause_s=answer.retry_after_s())

    def _send_file(self, path: Path, known: str | None, on_bytes: OnBytes | None) -> Blob:
        with open(path, "rb", buffering=0) as file:
            source = _Source(path, file, on_bytes)
            try:
                told = self._send(source, known)
            except Refused as refused:
                if not known or refused.status != 422:
                    raise
                # The file is not what was remembered of it.
                self.hashes.forget(source.identity)
                told = self._send(source, None)
            if not source.has_changed():
                self.hashes.put(source.identity, told["hash"])
            return Blob(told["hash"], told["len"])

    def _send(self, source: _Source, known: str | None) -> Json:
        if source.size > PARTS_MIN:
            return self._send_parts(source, known)
        method, to = ("PUT", f"/blobs/{known}") if known else ("POST", "/blobs")
        ask = self._ask(method, to, body=source.pieces, length=source.size, repeat=True)
        return self._json(ask)

    def _send_parts(self, source: _Source, known: str | None) -> Json:
        """Sends a file to an upload of the farm, going on where a connection broke."""
        patience = _Patience(PATIENCE_S)
        upload, offset = self._begin_upload(source.size, known), 0
        while True:
            try:
                return self._send_part(upload, source, offset)
            except (NotConnected, *Broken) as error:
                patience.again_after(error, True)
            except Refused as refused:
                # It is unknown, silent, somewhere else, or busy.
                patience.again_after(refused, refused.status in (404, 408, 409, 503))
            try:
                told = self.get(upload)
                if told["blob"]:
                    return told["blob"]
                if told["offset"] > offset:
                    patience.rest()
                offset = told["offset"]
                if not source.has_changed():
                    continue
                self.delete(upload)
            except Refused as refused:
                if refused.status != 404:
                    raise
            upload, offset = self._begin_upload(source.size, known), 0

    def _begin_upload(self, size: int, known: str | None) -> str:
        """The path of a new upload."""
        headers = {"Upload-Length": str(size), "Upload-Complete": "?0"}
        ask = self._ask("POST", "/uploads", query={"hash": known}, headers=headers, repeat=True)
        answer = self._open(ask)
        answer.finish()
        return answer.header("Location")

    def _send_part(self, upload: str, source: _Source, offset: int) -> Json:
        """Sends all from a byte on. If that breaks, nobody knows how far it came."""
        ask = self._ask(
            "PATCH",
            upload,
            body=lambda: source.pieces(offset),
            length=source.size - offset,
            kind="application/partial-upload",
            headers={"Upload-Offset": str(offset), "Upload-Complete": "?1"},
        )
        return _parsed(ask, self._open(ask, patience_s=0.0).read())

    def _receive(self, path: str, file: int, length: int | None, on_bytes: OnBytes | None) -> None:
        """Writes a file of the farm to an open one, going on where a connection broke."""
        buffer = memoryview(bytearray(PIECE))
        patience = _Patience(PATIENCE_S)
        done, etag = 0, ""
        while True:
            ask = self._ask("GET", path)
            if done:
                ask.headers += f"Range: bytes={done}-\r\nIf-Range: {etag}\r\n"
            answer = self._open(ask)
            if answer.status != 206:
                done = 0
                os.ftruncate(file, 0)
                os.lseek(file, 0, os.SEEK_SET)
            etag = answer.header("ETag")
            whole = done + (answer.left() or 0)
            if length is not None and length != whole:
                answer.close()
                raise GrangeError(
                    f"{path} has {whole} bytes and not {length}: it was made anew meanwhile, so "
                    "ask for it again"
                )
            try:
                while count := answer.into(buffer, ANSWER_S):
                    _write(file, buffer[:count])
                    done += count
                    patience.rest()
                    if on_bytes:
                        on_bytes(done, whole)
            except Broken as error:
                answer.close()
                # Without a tag nobody knows whether the rest belongs to what is here.
                done = done if etag else 0
                patience.again_after(error, True)
                continue
            except BaseException:
                answer.close()
                raise
            answer.finish()
            return


class _Source:
    """A file that is sent as it was when it was opened, from any byte on."""

    def __init__(self, path: Path, file: FileIO, on_bytes: OnBytes | None) -> None:
        self._path = path
        self._file = file
        self._on_bytes = on_bytes
        self._told = 0
        self.identity = Identity.of(path, os.fstat(file.fileno()))
        self.size = self.identity.size

    def has_changed(self) -> bool:
        """Whether it is another file by now, for all that the file system says."""
        return Identity.of(self._path, os.fstat(self._file.fileno())) != self.identity

    def pieces(self, offset: int = 0) -> Iterator[memoryview]:
        """The rest of it. What was told to be done stays so, unless it begins anew."""
        buffer = memoryview(bytearray(min(PIECE, max(self.size, 1))))
        sent = offset
        self._told = self._told if offset else 0
        os.lseek(self._file.fileno(), offset, os.SEEK_SET)
        while sent < self.size:
            count = self._file.readinto(buffer[: self.size - sent])
            if not count:
                raise GrangeError(
                    f"{self._path} became shorter while it was sent: save it, then try again"
                )
            yield buffer[:count]
            sent += count
            if self._on_bytes and sent > self._told:
                self._told = sent
                self._on_bytes(sent, self.size)


class _Patience:
    """How long one thing is tried again."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self.rest()

    def rest(self) -> None:
        """Something worked: what breaks from now on breaks for the first time."""
        self._until: float | None = None
        self._pause_s = 0.1
        self._stale = False

    def again_after(
        self, error: BaseException, may: bool, *, at_once: bool = False, pause_s: float = 0.0
    ) -> None:
        """Returns when to try again, or raises what to tell the caller."""
        now = time.monotonic()
        if self._until is None:
            self._until = now + self._limit_s
        if not may or now >= self._until:
            if isinstance(error, GrangeError):
                raise error
            raise NotConnected(
                f"the connection to the farm broke ({why(error)}): see that its coordinator runs, "
                "then try again"
            ) from error
        if at_once and not self._stale:
            # The connection had been idle, and its other end was closed meanwhile.
            self._stale = True
            return
        time.sleep(min(max(pause_s, self._pause_s), max(0.0, self._until - now)))
        self._pause_s = min(self._pause_s * 2, 2.0)


class _Tally:
    """Adds up the bytes of several transfers for one listener."""

    def __init__(self, total: int, on_bytes: OnBytes | None) -> None:
        self._total = total
        self._on_bytes = on_bytes
        self._lock = threading.Lock()
        self._done: dict[int, int] = {}

    def of(self, at: int) -> OnBytes:
        """The listener of one of the transfers."""

        def told(done: int, _: int) -> None:
            with self._lock:
                self._done[at] = done
                if self._on_bytes:
                    self._on_bytes(sum(self._done.values()), self._total)

        return told


def output_path(job: int, name: str) -> str:
    """The path of an output's file, however odd its name."""
    return f"/jobs/{job}/outputs/{quote(name, safe='/')}"


def checked(text: str) -> str:
    """A header's text, which has no line breaks. Raises `ValueError` if it has."""
    if any(char in text for char in "\r\n\0") or not text.isascii():
        raise ValueError(f"{text!r} cannot be said in a header: use plain ASCII")
    return text


def _parsed(ask: Ask, data: bytes) -> Json:
    try:
        return json_.loads(data) if data else None
    except ValueError:
        raise GrangeError(
            f"the farm's answer to {ask.target} is not JSON: see that it is a Grange farm"
        ) from None


def _refused(status: int, body: bytes) -> Refused:
    try:
        problem = json_.loads(body)
        return Refused(status, str(problem["type"]), str(problem["detail"]))
    except (ValueError, KeyError, TypeError):
        detail = f"the farm's answer is {status} without a reason: see that it is a Grange farm"
        return Refused(status, "about:blank", detail)


def _write(file: int, data: memoryview) -> None:
    while data:
        data = data[os.write(file, data) :]
