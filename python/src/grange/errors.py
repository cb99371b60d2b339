"""What goes wrong, as classes that a caller branches on.

Every message is one sentence that names the thing and the next step. All of them are pickled with
their fields, so that they cross processes.
"""

from __future__ import annotations

from collections.abc import Sequence


class GrangeError(Exception):
    """Whatever this package raises, but for wrong arguments (`ValueError`, `TypeError`)."""


class NotConnected(GrangeError):
    """No farm is configured, or the farm cannot be reached, or the connection broke for good."""


class Refused(GrangeError):
    """The farm understood the request and says no (an RFC 9457 problem)."""

    status: int
    """The HTTP status, such as 404."""
    type: str
    """A word that stays the same, for programs, such as `urn:grange:not_found`."""
    detail: str
    """One sentence for people."""

    def __init__(self, status: int, type: str, detail: str) -> None:
        super().__init__(status, type, detail)
        self.status = status
        self.type = type
        self.detail = detail

    def __str__(self) -> str:
        return self.detail


class InstanceLost(GrangeError):
    """A Blender instance is gone, and with it everything that was set in it."""


class MissingFiles(GrangeError):
    """A scene names files that are not there."""

    files: list[str]
    """Each missing file, and what in the scene names it."""

    SHOWN = 20
    """More are only counted in the message."""

    def __init__(self, files: Sequence[str]) -> None:
        self.files = list(files)
        super().__init__(self.files)

    def __str__(self) -> str:
        count = len(self.files)
        head = "1 file is" if count == 1 else f"{count} files are"
        lines = [f"  {file}" for file in self.files[: self.SHOWN]]
        if count > self.SHOWN:
            lines.append(f"  … and {count - self.SHOWN} more")
        return (
            f"{head} missing that the scene needs: restore them, or pass `allow_missing=True` to "
            "render without them:\n" + "\n".join(lines)
        )


class JobFailed(GrangeError):
    """A job has ended without all of its frames."""

    job: int
    """Its number."""
    state: str
    """`failed` or `canceled`."""
    reason: str | None
    """Why, as a sentence, if the farm knows."""

    def __init__(self, job: int, state: str, reason: str | None) -> None:
        super().__init__(job, state, reason)
        self.job = job
        self.state = state
        self.reason = reason

    def __str__(self) -> str:
        why = f": {self.reason}" if self.reason else ""
        return f"job {self.job} is {self.state}{why}: `Job.logs()` has what Blender said"


class RemoteTraceback(Exception):
    """The cause of an exception that was raised in Blender: the traceback there, as text.

    Raise it as a cause (`raise ValueError(message) from RemoteTraceback(traceback)`), and Python
    prints the remote traceback above the local one, as `multiprocessing` does.
    """

    traceback: str

    def __init__(self, traceback: str) -> None:
        super().__init__(traceback)
        self.traceback = traceback

    def __str__(self) -> str:
        return f'\n"""\n{self.traceback.rstrip()}\n"""'
