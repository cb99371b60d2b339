"""The connection to the driver: one JSON object per line, both ways, over a Unix socket.

Blender's standard output belongs to Blender and to add-ons, so nothing of ours goes there.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

LINE_MAX = 4 * 1024 * 1024
"""Bytes of one message; the driver drops an instance that sends more."""

TEXT_MAX = 1500
"""Characters of one text inside a message."""


class Refused(Exception):
    """What was ordered cannot be done; `kind` is a `FailureKind` of the protocol."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def clip(text: str) -> str:
    """The text as JSON can carry it: short, and without the halves of broken characters."""
    return text.strip()[:TEXT_MAX].encode("utf-8", "replace").decode("utf-8")


class Link:
    """Sends from any thread; is read by one."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(path)
        self._sending = threading.Lock()

    def send(self, kind: str, /, **fields: Any) -> None:
        self._send_line(json.dumps({"is": kind, **fields}).encode("ascii") + b"\n")

    def try_send(self, kind: str, fields: dict[str, Any], size_max: int) -> bool:
        """Sends unless it would be larger; what JSON cannot carry raises, and nothing is sent."""
        line = json.dumps({"is": kind, **fields}).encode("ascii") + b"\n"
        if len(line) > size_max:
            return False
        self._send_line(line)
        return True

    def _send_line(self, line: bytes) -> None:
        try:
            with self._sending:
                self._socket.sendall(line)
        except OSError:
            os._exit(0)

    def orders(self) -> Iterator[dict[str, Any]]:
        """Every order, until the driver is gone."""
        with self._socket.makefile("rb") as stream:
            while (line := stream.readline(LINE_MAX)).endswith(b"\n"):
                yield json.loads(line)
