# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a list of pictures is, and how long the rest may take. It reads no clock itself."""

from __future__ import annotations

from collections.abc import Sequence

NEARLY = 0.95
"""A picture that takes longer than expected is never shown as further than this."""


class Progress:
    """Of pictures that are rendered one after the other. All times are in seconds."""

    def __init__(self, weights: Sequence[float]) -> None:
        self._weights = [max(weight, 1e-9) for weight in weights]
        self._seconds = 0.0
        self._began: float | None = None
        self.done = 0
        """Pictures that are finished."""

    @property
    def total(self) -> int:
        return len(self._weights)

    def begin(self, now: float) -> None:
        """The next picture begins, or the same one again."""
        self._began = now

    def finish(self, now: float) -> None:
        """The picture that was begun is there."""
        self._seconds += now - (now if self._began is None else self._began)
        self._began = None
        self.done += 1

    def left_s(self, now: float) -> float | None:
        """Until all are done; None as long as nothing is known."""
        if not self.done:
            return None
        pace = self._seconds / sum(self._weights[: self.done])
        return max(0.0, pace * sum(self._weights[self.done :]) - self._running(now))

    def fraction(self, now: float) -> float:
        """0 to 1, of the work and not of the number of pictures."""
        whole = sum(self._weights)
        made = sum(self._weights[: self.done])
        if self.done and self.done < self.total and self._seconds > 0:
            pace = self._seconds / made
            own = self._weights[self.done]
            made += own * min(NEARLY, self._running(now) / (pace * own))
        return made / whole if whole else 1.0

    def _running(self, now: float) -> float:
        return 0.0 if self._began is None else now - self._began


def clock(seconds: float) -> str:
    """`0:07`, `3:25`, `1:02:00`."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
