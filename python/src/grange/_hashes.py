"""Which files were sent before, by what the file system says of them: path, size, times, inode.

A file that has not changed since keeps its hash, so that nobody reads it again. Owns one small
SQLite file that any number of processes share; whatever goes wrong with it means only that a file
is read and sent once more. It never decides whether the farm has a file: the farm is asked.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path

_TABLE = """
create table if not exists hashes (
    path text primary key, size integer not null, mtime_ns integer not null,
    ctime_ns integer not null, inode integer not null, device integer not null,
    hash text not null
) without rowid
"""
BUSY_S = 5.0
"""How long to wait for another process that is writing."""
COARSE_NS = 2_000_000_000
FINE_NS = 100_000_000


@dataclass(frozen=True)
class Identity:
    """What the file system says of a file; a change of the file changes it."""

    path: str
    size: int
    """Bytes."""
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, path: Path, stat: os.stat_result | None = None) -> Identity:
        """Of the file at a path. Raises `OSError` if it is not there."""
        there = stat or path.stat()
        return cls(
            os.path.realpath(path),
            there.st_size,
            there.st_mtime_ns,
            there.st_ctime_ns,
            there.st_ino,
            there.st_dev,
        )

    def is_settled(self) -> bool:
        """Whether a later change is sure to show in its times.

        A file that is changed twice within a tick of its file system's clock looks the same both
        times; some file systems count whole seconds.
        """
        tick = COARSE_NS if self.mtime_ns % 1_000_000_000 == 0 else FINE_NS
        return time.time_ns() - max(self.mtime_ns, self.ctime_ns) > tick


class Hashes:
    """The hashes of files that were sent before."""

    def __init__(self, file: Path | None = None) -> None:
        """Keeps them in `file`, by default in the user's cache."""
        self._file = file or _default()
        self._lock = threading.Lock()

    def get(self, identity: Identity) -> str | None:
        """The hash of a file, if it was sent as it is now."""
        query = (
            "select hash from hashes where path = ? and size = ? and mtime_ns = ? "
            "and ctime_ns = ? and inode = ? and device = ?"
        )
        row = self._do(query, _row(identity))
        return str(row[0]) if row else None

    def put(self, identity: Identity, hash: str) -> None:
        """Remembers a file's hash, unless the file has only just changed."""
        if identity.is_settled():
            row = (*_row(identity), hash)
            self._do("insert or replace into hashes values (?, ?, ?, ?, ?, ?, ?)", row)

    def forget(self, identity: Identity) -> None:
        """Drops what is remembered of a path."""
        self._do("delete from hashes where path = ?", (identity.path,))

    def _do(self, statement: str, values: tuple[str | int, ...]) -> tuple[str] | None:
        """Does one statement in a transaction of its own; the row that it gives, if any.

        The file is opened for every use: that takes a tenth of a millisecond, and a connection may
        neither change threads nor survive a fork.
        """
        with self._lock:
            try:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                opened = contextlib.closing(sqlite3.connect(self._file, timeout=BUSY_S))
                with opened as database, database:
                    database.execute(_TABLE)
                    return database.execute(statement, values).fetchone()
            except (OSError, sqlite3.Error):
                return None


def _row(identity: Identity) -> tuple[str, int, int, int, int, int]:
    # SQLite's integers have 64 bits with a sign; inodes and devices may have 64 without.
    return (
        identity.path,
        identity.size,
        identity.mtime_ns,
        identity.ctime_ns,
        identity.inode & 0x7FFF_FFFF_FFFF_FFFF,
        identity.device & 0x7FFF_FFFF_FFFF_FFFF,
    )


def _default() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base, "grange", "hashes.sqlite")
