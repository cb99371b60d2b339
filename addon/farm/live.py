# SPDX-License-Identifier: GPL-3.0-or-later
"""The farm in Blender's main thread: the link there is, what is known, and the timer that brings
the news of the threads over, a few milliseconds at a time.
"""

from __future__ import annotations

import time
import uuid

import bpy
from bpy.app.handlers import persistent

from .. import preferences
from . import showing
from .desk import Desk, Followed
from .link import Link, package
from .record import Entry, Record
from .sending import Order

BUDGET_S = 0.005
"""Of a tick, for taking in news."""
BUSY_S = 0.1
"""Between two ticks while something happens."""
IDLE_S = 0.5
SHOW_EVERY_S = 0.25
"""Drawing costs more than a tick."""
STALE_S = 10.0
SHOWN_MAX = 20
"""Jobs of a file that are followed when it is opened."""

desk = Desk()
link: Link | None = None
problem: str | None = None
"""Why there is no link, in a sentence; None where nobody has signed in."""
_record: Record | None = None
_orders: dict[int, Order] = {}
_unsaved = f"unsaved {uuid.uuid4()}"
_unshown = False
_shown_at = 0.0


def owner() -> str:
    """Whose jobs are those of the file that is open."""
    return bpy.data.filepath or _unsaved


def jobs() -> list[Followed]:
    """Those of the file that is open, the latest first."""
    return desk.of(owner())


def connect() -> bool:
    """Sees that there is a link, if the user has signed in; whether there is one now."""
    global link, problem
    if link is not None or not preferences.is_online():
        return link is not None
    problem = None
    grange = package()
    try:
        link = Link(preferences.connect_string(), desk.put, preferences.poll_s())
    except grange.NotConnected as error:
        # Nobody has signed in, which the panel says in its own words.
        problem = None if not grange.is_configured() else str(error)
    except ValueError as error:
        problem = str(error)
    if link is None:
        return False
    find_jobs()
    if not bpy.app.timers.is_registered(_timer):
        bpy.app.timers.register(_timer, first_interval=BUSY_S, persistent=True)
    return True


def check(connect: str) -> None:
    """Raises `ValueError` with a sentence for a connect string that is none."""
    package().connect(connect, check=False).close()


def disconnect() -> None:
    """Jobs go on. What is known of them is forgotten until there is a link again."""
    global link, desk, problem
    if link is not None:
        link.close()
    link, problem = None, None
    for order in _orders.values():
        order.discard()
    _orders.clear()
    desk = Desk()
    if bpy.app.timers.is_registered(_timer):
        bpy.app.timers.unregister(_timer)


def submit(order: Order) -> None:
    """Sends it to the farm, from which `tick` hears how that goes."""
    assert link is not None, "connect before"
    _orders[order.number] = order
    desk.refused = None
    desk.warnings = ()
    desk.sending[order.number] = None
    link.submit(order)


def forget(job: int) -> None:
    """Takes a job off the list."""
    desk.jobs.pop(job, None)
    if link is not None:
        record().forget(link.authority, job)


def fetch_again(job: Followed) -> None:
    """Saves what is not here yet, or not any more."""
    job.problem, job.is_done, job.is_whole = None, False, False


def find_jobs() -> None:
    """The jobs of the file that is open, as far as this user has submitted them."""
    if link is None:
        return
    for entry in record().of(link.authority, owner())[:SHOWN_MAX]:
        job = desk.follow(entry.job, entry.name, entry.folder, entry.owner)
        job.is_whole = entry.is_fetched


def record() -> Record:
    global _record
    if _record is None:
        _record = Record(preferences.path("jobs.json"))
    return _record


def tick() -> int:
    """Takes in what happened, and follows from it what has to; how much that was."""
    taken = desk.drain(BUDGET_S)
    if link is None:
        return taken
    for number, job in list(desk.submitted.items()):
        del desk.submitted[number]
        _take_up(link, _orders.pop(number), job)
    for number in [number for number in _orders if number not in desk.sending]:
        _orders.pop(number, None)
    signed_in = not (desk.lost and desk.lost.is_refused)
    for job in desk.jobs.values():
        if job.is_done and job.is_whole:
            record().fetched(link.authority, job.job)
        elif not job.is_done and signed_in:
            link.follow(job.job, job.folder, job.is_whole)
    return taken


def _take_up(link: Link, order: Order, job: int) -> None:
    """Follows a job that the farm has now."""
    desk.follow(job, order.name, order.folder, order.owner)
    record().add(Entry(link.authority, job, order.owner, order.name, order.folder))


def _timer() -> float:
    """Also shows what is new, and now and then that nothing is."""
    global _unshown, _shown_at
    happens = tick() > 0 or bool(desk.sending)
    _unshown = _unshown or happens
    now = time.monotonic()
    if now - _shown_at >= (SHOW_EVERY_S if _unshown else STALE_S):
        _unshown, _shown_at = False, now
        showing.refresh(jobs())
        showing.redraw()
    return BUSY_S if happens else IDLE_S


@persistent
def _on_load(*_: object) -> None:
    global _unsaved
    _unsaved = f"unsaved {uuid.uuid4()}"
    showing.clear()
    if not bpy.app.background:
        connect()
    find_jobs()


@persistent
def _on_save(*_: object) -> None:
    """A file that had no path has one now, and keeps its jobs."""
    path = bpy.data.filepath
    if not path:
        return
    known = [job for job in desk.jobs.values() if job.owner == _unsaved]
    for job in known:
        job.owner = path
    if known:
        record().rename(_unsaved, path)


def _begin() -> None:
    """Once Blender is up, so that starting it takes no longer."""
    if not bpy.app.background:
        connect()


HANDLERS = (("load_post", _on_load), ("save_post", _on_save))


def register() -> None:
    for name, handler in HANDLERS:
        getattr(bpy.app.handlers, name).append(handler)
    bpy.app.timers.register(_begin, first_interval=1.0)


def unregister() -> None:
    if bpy.app.timers.is_registered(_begin):
        bpy.app.timers.unregister(_begin)
    disconnect()
    showing.clear()
    for name, handler in HANDLERS:
        handlers = getattr(bpy.app.handlers, name)
        if handler in handlers:
            handlers.remove(handler)
