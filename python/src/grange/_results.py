"""Results of calls that are still under way, as `multiprocessing.pool` has them."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing import TimeoutError
from typing import Any, Generic, TypeVar

from .progress import Task

LOGGER = logging.getLogger("grange")

T = TypeVar("T")
Settle = Callable[[bool, Any], None]
"""Takes whether a call worked, and its value or its exception."""


class Call:
    """One call of a person's function. It is settled once, whoever tries first."""

    def __init__(
        self, args: Sequence[Any], named: dict[str, Any], tasks: list[Task], settle: Settle
    ) -> None:
        self.args = args
        self.named = named
        self.tasks = tasks
        """Bars that end with it."""
        self._settle: Settle | None = settle
        self._lock = threading.Lock()
        for task in tasks:
            task.tie()

    def settle(self, worked: bool, value: Any) -> None:
        """It has ended. Later news of it says nothing."""
        with self._lock:
            settle, self._settle = self._settle, None
        if settle:
            settle(worked, value)
            for task in self.tasks:
                task.end(None if worked else value)


class AsyncResult(Generic[T]):
    """The result of `apply_async`, `map_async` and `starmap_async`."""

    def __init__(
        self,
        count: int,
        gather: Callable[[list[Any]], T],
        callback: Callable[[T], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        self._values: list[Any] = [None] * count
        self._left = count
        self._gather = gather
        self._callback = callback
        self._error_callback = error_callback
        self._error: BaseException | None = None
        self._ready = threading.Event()
        self._lock = threading.Lock()
        if not count:
            self._finish()

    def ready(self) -> bool:
        """Whether all calls of it have ended."""
        return self._ready.is_set()

    def successful(self) -> bool:
        """Whether none of them raised. Raises `ValueError` if it is not ready."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._error is None

    def wait(self, timeout: float | None = None) -> None:
        """Sleeps until it is ready, at most `timeout` seconds."""
        self._ready.wait(timeout)

    def get(self, timeout: float | None = None) -> T:
        """The value; raises what the function raised, with a remote traceback as its cause, and
        `multiprocessing.TimeoutError` if it is not ready after `timeout` seconds.
        """
        if not self._ready.wait(timeout):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._gather(self._values)

    def settle(self, at: int, worked: bool, value: Any) -> None:
        """One of its calls has ended."""
        with self._lock:
            if worked:
                self._values[at] = value
            else:
                self._error = self._error or value
            self._left -= 1
            if self._left:
                return
        self._finish()

    def _finish(self) -> None:
        # As in `multiprocessing`, callbacks come before anybody learns that it is ready.
        try:
            if self._error is None and self._callback:
                self._callback(self._gather(self._values))
            elif self._error is not None and self._error_callback:
                self._error_callback(self._error)
        except Exception:
            LOGGER.exception("a callback of a pool failed")
        self._ready.set()


class ResultIterator(Generic[T]):
    """The results of `imap` and `imap_unordered`, each as soon as it is its turn."""

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._here: dict[int, tuple[bool, Any]] = {}
        self._arrived: deque[int] = deque()
        self._next = 0
        self._length: int | None = None
        self._changed = threading.Condition()

    def __iter__(self) -> ResultIterator[T]:
        return self

    def __next__(self) -> T:
        return self.next()

    def next(self, timeout: float | None = None) -> T:
        """The next result. Raises what its call raised (those after it can still be had),
        `StopIteration` after the last, and `multiprocessing.TimeoutError` if there is none after
        `timeout` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_one() or self._at_end(), timeout):
                raise TimeoutError
            if not self._has_one():
                raise StopIteration
            at = self._next if self._ordered else self._arrived.popleft()
            worked, value = self._here.pop(at)
            self._next += 1
        if worked:
            return value
        raise value

    def settle(self, at: int, worked: bool, value: Any) -> None:
        """The call at that place has ended."""
        with self._changed:
            self._here[at] = (worked, value)
            self._arrived.append(at)
            self._changed.notify_all()

    def ends(self, length: int) -> None:
        """There are that many calls, and no more. The first word on it counts."""
        with self._changed:
            self._length = length if self._length is None else self._length
            self._changed.notify_all()

    def _has_one(self) -> bool:
        return self._next in self._here if self._ordered else bool(self._arrived)

    def _at_end(self) -> bool:
        return self._length is not None and self._next >= self._length
