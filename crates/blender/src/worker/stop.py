"""Stopping a render from another thread.

A Blender executable installs a C handler for SIGINT that sets its break flag; the second SIGINT
of a process's life kills it, though, because the handler counts. Called directly with another
number it only sets the flag, as often as needed. The bpy module installs no such handler: there a
render can only be stopped by killing the process.
"""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from collections.abc import Callable

import bpy

AGAIN_S = 0.05
"""How often the flag is set while a render is being stopped: its start would clear it."""


def find_break_switch() -> Callable[[], None] | None:
    """What sets Blender's break flag, or `None` where only killing helps."""
    if not bpy.app.binary_path:
        return None
    libc = ctypes.CDLL(None)
    libc.signal.restype = ctypes.c_void_p
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    handler = libc.signal(signal.SIGINT, None)
    libc.signal(signal.SIGINT, handler)
    if handler in (None, 1, ctypes.c_void_p(-1).value):
        return None
    set_flag = ctypes.CFUNCTYPE(None, ctypes.c_int)(handler)
    return lambda: set_flag(0)


class Stopper:
    """Knows every render that was ordered and has not ended, and stops the one under way.

    The reading thread calls `expect` and `cancel`, the main thread the rest.
    """

    def __init__(self) -> None:
        self._switch = find_break_switch()
        self._lock = threading.Lock()
        self._open: set[int] = set()
        self._unwanted: set[int] = set()
        self._running: int | None = None

    @property
    def can_stop(self) -> bool:
        return self._switch is not None

    def expect(self, render: int) -> None:
        with self._lock:
            self._open.add(render)

    def cancel(self, render: int) -> bool:
        """Ends the render soon, or before it begins. False if only killing the process helps."""
        with self._lock:
            if render not in self._open:
                return True
            self._unwanted.add(render)
            if self._running != render:
                return True
        if self._switch:
            threading.Thread(target=self._break, args=(render, self._switch), daemon=True).start()
        return self.can_stop

    def begin(self, render: int) -> bool:
        """Whether the render is still wanted; from now on it is the one to break."""
        with self._lock:
            self._running = render
            return render not in self._unwanted

    def end(self, render: int) -> None:
        with self._lock:
            self._running = None
            self._open.discard(render)
            self._unwanted.discard(render)

    def is_unwanted(self, render: int) -> bool:
        with self._lock:
            return render in self._unwanted

    def _break(self, render: int, switch: Callable[[], None]) -> None:
        while True:
            # Under the lock, so that the flag is never set for the render that comes next.
            with self._lock:
                if self._running != render:
                    return
                switch()
            time.sleep(AGAIN_S)
