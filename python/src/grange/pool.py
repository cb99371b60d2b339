"""`Pool`: a function of yours for many things at once, each with a Blender of the farm.

It is used like `multiprocessing.pool.Pool`; four things differ. The function gets a `Blender` as
its first argument. It runs in threads of this process, so that it may be a closure, in a notebook
too, and nothing is pickled. `chunksize` is 1 where it is left out, as a render takes long. And the
end of a `with` block waits for all calls; only an exception that leaves the block terminates them.

As many calls are under way as the farm runs instances, which is looked at again every few seconds,
and one more, so that the farm sees that more are wanted. A client that a call leaves behind is used
again for a call that opens the same scene, as it was saved; otherwise its session ends.

Owns one thread that hands out calls and one for each call; all of them sleep while they wait.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from . import _extensions, _request
from ._contract import Farm
from ._extensions import Extension
from ._operations import Path
from ._results import AsyncResult, Call, ResultIterator
from ._shelf import Shelf
from .blender import Blender
from .errors import GrangeError, InstanceLost
from .progress import tasks_in

__all__ = ["AsyncResult", "Pool", "ResultIterator"]

LOOK_S = 3.0
"""Between two looks at how much room the farm has, while calls wait for it."""
RERUNS = 3

T = TypeVar("T")
Function = Callable[..., T]
"""Takes a `Blender` first."""


@dataclass(frozen=True)
class Chunk:
    """Calls that are done one after the other."""

    function: Function[Any]
    calls: list[Call]
    stops: bool
    """Whether the first error is that of those after it as well."""


@dataclass(eq=False)
class Feed:
    """Chunks to come, of one call of a pool's."""

    chunks: Iterator[Chunk]
    abandon: Callable[[Exception], None]
    """Settles all that has not come out."""


class Pool:
    """Calls of functions, each with an instance of the farm. Get one from `farm.pool()`.

    All methods are those of `multiprocessing.pool.Pool`, for any thread.
    """

    def __init__(
        self,
        farm: Farm,
        limit: int | None = None,
        *,
        reruns: int = RERUNS,
        extensions: Iterable[Extension] = (),
        name: str | None = None,
        priority: int | None = None,
        idle_s: int | None = None,
        settings: dict[str, Any] | None = None,
        tags: Iterable[str] = (),
        log_dir: Path | None = None,
    ) -> None:
        """At most `limit` calls at once. A call whose instance is lost is made again on another
        one, `reruns` times at most; so let it be one that may be made twice. The rest is as for
        `Blender`.

        Raises `ValueError` for a limit below 1.
        """
        if limit is not None and limit < 1:
            raise ValueError(
                f"a pool of {limit} can do nothing: ask for 1 or more, or for no limit"
            )
        self._farm = farm
        self._limit = limit
        self._reruns = reruns
        self._extensions = list(extensions)
        _extensions.read(self._extensions)
        self._tags = _request.tags(tags)
        self._wishes = {"name": name, "priority": priority, "idle_s": idle_s, "settings": settings}
        self._log_dir = log_dir
        self._shelf = Shelf()
        self._feeds: deque[Feed] = deque()
        self._running: set[Call] = set()
        self._clients: set[Blender] = set()
        self._threads = 0
        self._room = 1
        self._closed = False
        self._terminated = False
        self._changed = threading.Condition()
        self._dispatcher = threading.Thread(target=self._dispatch, name="grange-pool", daemon=True)
        self._dispatcher.start()

    # What can be called

    def apply(
        self, func: Function[T], args: Iterable[Any] = (), kwds: Mapping[str, Any] | None = None
    ) -> T:
        """The value of `func(blender, *args, **kwds)`."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Function[T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callable[[T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[T]:
        """The same, at once and as a result to come. Callbacks are called in another thread."""

        def only(values: list[T]) -> T:
            return values[0]

        result = AsyncResult(1, only, callback, error_callback)
        self._submit(func, [(tuple(args), dict(kwds or {}))], 1, result)
        return result

    def map(
        self, func: Function[T], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[T]:
        """The values of `func(blender, item)` for each item, in their order."""
        return self.map_async(func, iterable, chunksize).get()

    def map_async(
        self,
        func: Function[T],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[list[T]]:
        """The same, at once and as a result to come."""
        items = [((item,), dict[str, Any]()) for item in iterable]
        result: AsyncResult[list[T]] = AsyncResult(len(items), list, callback, error_callback)
        self._submit(func, items, chunksize, result)
        return result

    def starmap(
        self, func: Function[T], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[T]:
        """The values of `func(blender, *item)` for each item, in their order."""
        return self.starmap_async(func, iterable, chunksize).get()

    def starmap_async(
        self,
        func: Function[T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[list[T]]:
        """The same, at once and as a result to come."""
        items = [(tuple(item), dict[str, Any]()) for item in iterable]
        result: AsyncResult[list[T]] = AsyncResult(len(items), list, callback, error_callback)
        self._submit(func, items, chunksize, result)
        return result

    def imap(
        self, func: Function[T], iterable: Iterable[Any], chunksize: int = 1
    ) -> ResultIterator[T]:
        """The values of `func(blender, item)` in the order of the items, as they come. Items are
        taken as there is room for their calls, in another thread.
        """
        return self._stream(func, iterable, chunksize, ResultIterator[T](ordered=True))

    def imap_unordered(
        self, func: Function[T], iterable: Iterable[Any], chunksize: int = 1
    ) -> ResultIterator[T]:
        """The same, in the order that they come in."""
        return self._stream(func, iterable, chunksize, ResultIterator[T](ordered=False))

    # The end

    def close(self) -> None:
        """Takes no more calls. Those that were given are still made."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def terminate(self) -> None:
        """Ends all sessions at once. Results that are not there yet are a `GrangeError`; a function
        that is in the middle of something learns of it at its next call of its `Blender`.
        """
        error = GrangeError("the pool was terminated before this call had ended")
        with self._changed:
            self._closed = self._terminated = True
            feeds, calls, clients = list(self._feeds), list(self._running), list(self._clients)
            self._feeds.clear()
            self._changed.notify_all()
        for feed in feeds:
            feed.abandon(error)
        for call in calls:
            call.settle(False, error)
        if clients:
            with ThreadPoolExecutor(len(clients), "grange-close") as several:
                for client in clients:
                    several.submit(client.close)
        self._shelf.close()

    def join(self) -> None:
        """Waits until all calls have ended, and ends the sessions. Raises `ValueError` before
        `close` or `terminate`.
        """
        if not self._closed:
            raise ValueError("Pool is still running")
        with self._changed:
            self._changed.wait_for(lambda: self._terminated or not (self._feeds or self._threads))
        self._shelf.close()

    def __enter__(self) -> Pool:
        self._check()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.terminate()
        self.close()
        try:
            self.join()
        except BaseException:
            self.terminate()
            raise

    def __repr__(self) -> str:
        state = "terminated" if self._terminated else "closed" if self._closed else "running"
        return f"<Pool {state}, {self._threads} calls under way>"

    # Giving calls

    def _check(self) -> None:
        if self._closed:
            raise ValueError("Pool not running")

    def _submit(
        self,
        function: Function[Any],
        items: Sequence[tuple[Sequence[Any], dict[str, Any]]],
        chunksize: int | None,
        result: AsyncResult[Any],
    ) -> None:
        size = checked(1 if chunksize is None else chunksize)
        self._check()
        calls = [
            Call(args, named, tasks_in(args, named), settling(result, at))
            for at, (args, named) in enumerate(items)
        ]

        def abandon(error: Exception) -> None:
            for call in calls:
                call.settle(False, error)

        starts = range(0, len(calls), size)
        chunks = [Chunk(function, calls[start : start + size], True) for start in starts]
        self._feed(Feed(iter(chunks), abandon))

    def _stream(
        self,
        function: Function[Any],
        iterable: Iterable[Any],
        chunksize: int,
        results: ResultIterator[T],
    ) -> ResultIterator[T]:
        size = checked(chunksize)
        self._check()
        count = itertools.count()

        def call(item: Any) -> Call:
            return Call((item,), {}, tasks_in((item,), {}), settling(results, next(count)))

        def abandon(error: Exception) -> None:
            at = next(count)
            results.settle(at, False, error)
            results.ends(at + 1)

        def chunks() -> Iterator[Chunk]:
            items = iter(iterable)
            try:
                while some := [call(item) for item in itertools.islice(items, size)]:
                    yield Chunk(function, some, False)
            except Exception as error:
                # The person's own iterable failed: they learn of it where they take results.
                abandon(error)
            else:
                results.ends(next(count))

        self._feed(Feed(chunks(), abandon))
        return results

    def _feed(self, feed: Feed) -> None:
        with self._changed:
            closed = self._closed
            if not closed:
                self._feeds.append(feed)
                self._changed.notify_all()
        if closed:
            feed.abandon(GrangeError("the pool was closed"))
            self._check()

    # Handing them out

    def _dispatch(self) -> None:
        looked = -LOOK_S
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._feeds or self._closed)
                if not self._feeds:
                    return
            if time.monotonic() - looked >= LOOK_S:
                self._look()
                looked = time.monotonic()
            with self._changed:
                free = self._changed.wait_for(self._may_begin, LOOK_S)
                if not free or not self._feeds:
                    continue
                feed = self._feeds[0]
            # What is taken may be a person's own generator: nothing is held.
            chunk = next(feed.chunks, None)
            with self._changed:
                if chunk is None:
                    with suppress(ValueError):
                        self._feeds.remove(feed)
                    self._changed.notify_all()
                terminated = self._terminated
                if chunk and not terminated:
                    self._threads += 1
                    self._running.update(chunk.calls)
            if chunk is None:
                self._tidy()
                continue
            if terminated:
                for call in chunk.calls:
                    call.settle(False, GrangeError("the pool was terminated"))
                return
            threading.Thread(
                target=self._run, args=(chunk,), name="grange-pool-call", daemon=True
            ).start()

    def _may_begin(self) -> bool:
        return not self._feeds or self._threads < self._most()

    def _most(self) -> int:
        most = self._room + 1
        return min(most, self._limit or most)

    def _look(self) -> None:
        """How many instances the farm runs. While it cannot be asked, as many as before."""
        with suppress(GrangeError, OSError):
            self._room = max(self._farm.room(self._tags), 1)

    def _run(self, chunk: Chunk) -> None:
        failed: BaseException | None = None
        for call in chunk.calls:
            worked, value = False, failed
            if failed is None:
                try:
                    worked, value = True, self._make(chunk.function, call)
                # Whatever it is, somebody waits for it elsewhere.
                except BaseException as error:
                    value = error
                    failed = error if chunk.stops else None
            call.settle(worked, value)
        with self._changed:
            self._threads -= 1
            self._running.difference_update(chunk.calls)
            self._changed.notify_all()
        self._tidy()

    def _tidy(self) -> None:
        """Ends idle sessions that no call is about to take while others wait for an instance."""
        with self._changed:
            waiting = any(not client.is_ready for client in self._clients)
            coming = max(self._most() - self._threads, 0) if self._feeds else 0
        if waiting:
            self._shelf.shrink(coming)

    def _make(self, function: Function[T], call: Call) -> T:
        """One call, again as long as its instance is lost."""
        for lost in range(self._reruns + 1):
            client = self._client()
            try:
                return function(client, *call.args, **call.named)
            except InstanceLost as error:
                if self._terminated:
                    raise
                if lost == self._reruns:
                    name = getattr(function, "__name__", repr(function))
                    raise InstanceLost(
                        f"`{name}` lost its instance {lost + 1} times in a row, at last so: {error}"
                    ) from error
                for task in call.tasks:
                    task.restart()
            finally:
                with self._changed:
                    self._clients.discard(client)
                client.release()
        raise AssertionError("a call was made less than once")

    def _client(self) -> Blender:
        client = Blender(
            self._farm,
            extensions=self._extensions,
            log_dir=self._log_dir,
            shelf=self._shelf,
            tags=self._tags,
            **self._wishes,  # pyright: ignore[reportArgumentType]
        )
        with self._changed:
            if self._terminated:
                raise GrangeError("the pool was terminated")
            self._clients.add(client)
        return client


def checked(chunksize: int) -> int:
    """The size of chunks. Raises `ValueError` for less than 1."""
    if chunksize < 1:
        raise ValueError(f"Chunksize must be 1+, not {chunksize}")
    return chunksize


def settling(
    result: AsyncResult[Any] | ResultIterator[Any], at: int
) -> Callable[[bool, Any], None]:
    """Settles the call at a place of a result."""
    return lambda worked, value: result.settle(at, worked, value)
