"""Runs inside Blender, on behalf of Grange: opens scenes and renders shots of them, as ordered.

    blender … --python main.py -- SOCKET THREADS
    python main.py SOCKET THREADS                 (a Python that has the bpy module)

The main thread does one order after the other: open, render, probe, quit. A reading thread takes
them in, and does itself what cannot wait: cancel and ping. When the driver is gone, so is this
process.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import traceback
from typing import Any

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from worker import host, opening, probing  # noqa: E402
from worker.link import Link, Refused, clip  # noqa: E402
from worker.rendering import Renderer  # noqa: E402
from worker.session import begin, calls  # noqa: E402
from worker.session.state import LOOKS, Session  # noqa: E402
from worker.stop import Stopper  # noqa: E402


class Worker:
    def __init__(self, link: Link, threads: int) -> None:
        self._link = link
        self._stopper = Stopper()
        self._renderer = Renderer(link, self._stopper, threads)
        self._orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._opened: tuple[str, bool] | None = None
        self._session: Session | None = None

    def serve(self) -> None:
        self._link.send("hello", **host.describe(self._stopper.can_stop))
        threading.Thread(target=self._read, daemon=True).start()
        while True:
            order = self._orders.get()
            try:
                self._do(order)
            except Exception as error:
                # Not foreseen: the order gets its answer, the log the whole story.
                traceback.print_exc()
                reason = clip(f"the worker failed: {error!r}")
                self._link.send("failed", id=order.get("id"), fault=None, reason=reason)

    def _read(self) -> None:
        for order in self._link.orders():
            what = order["do"]
            if what == "ping":
                self._link.send("pong")
            elif what == "cancel":
                if not self._stopper.cancel(order["id"]):
                    self._link.send("cannot_cancel", id=order["id"])
            else:
                if what == "render":
                    self._stopper.expect(order["id"])
                self._orders.put(order)
        leave()

    def _do(self, order: dict[str, Any]) -> None:
        what = order["do"]
        if what == "open":
            self._open(order["path"], order["allow_missing"])
        elif what == "render":
            self._render(order)
        elif what == "call":
            self._call(order)
        elif what == "probe":
            self._opened = None
            probing.probe(self._link, order["engine"], order["into"])
        elif what == "quit":
            leave()

    def _open(self, path: str, allow_missing: bool) -> None:
        self._opened = self._session = None
        try:
            seconds, warnings = opening.open_file(path, allow_missing)
        except Refused as refused:
            self._link.send("not_opened", fault=refused.kind, reason=clip(str(refused)))
            return
        self._opened = (path, allow_missing)
        self._renderer.file_opened()
        self._link.send("opened", seconds=seconds, warnings=warnings)

    def _call(self, order: dict[str, Any]) -> None:
        session = self._begun()
        if order["op"] == "reset" and self._opened is not None:
            # Opening the file anew is the one way back that is sure.
            opening.open_file(*self._opened)
            self._renderer.file_opened()
            sent = session.extensions if session is not None else {}
            session = self._session = begin.begin(self._opened[0])
            session.extensions = sent
        if order["op"] not in LOOKS:
            self._renderer.scene_changed()
        calls.call(self._link, session, order)

    def _render(self, order: dict[str, Any]) -> None:
        if self._opened is None:
            self._link.send("failed", id=order["id"], fault="other", reason="no file is open")
            self._stopper.end(order["id"])
            return
        session = self._begun() if order.get("session") else None
        if not self._renderer.run(order, session) and session is None:
            opening.open_file(*self._opened)
            self._renderer.file_opened()

    def _begun(self) -> Session | None:
        """The session on the open file, from its first call on."""
        if self._session is None and self._opened is not None:
            self._session = begin.begin(self._opened[0])
        return self._session


def leave() -> None:
    """Ends the process at once: the bpy module can crash or hang in an orderly exit."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    # What is printed is in the log by the time that the order is answered. A pipe is not a
    # terminal, to which lines go as they come.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)
    socket_path, threads = sys.argv[-2:]
    Worker(Link(socket_path), int(threads)).serve()
