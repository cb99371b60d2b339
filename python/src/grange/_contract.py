"""What the clients of instances need of a farm: a protocol, so that tests can stand in for one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ._http import Api


class Farm(Protocol):
    """A connected farm."""

    @property
    def api(self) -> Api:
        """The connection."""
        ...

    def room(self, tags: Iterable[str] = ()) -> int:
        """Instances that the farm runs at once now, those that are busy too, on hosts that have all
        of the tags; at least 1.
        """
        ...

    def _hold(self, session: int, /) -> None:
        """Keeps a session alive from now on."""
        ...

    def _let_go(self, session: int, /) -> None:
        """Stops keeping it alive; one that is unknown is no error."""
        ...


def hold(farm: Farm, session: int) -> None:
    """Keeps a session alive from now on."""
    farm._hold(session)  # pyright: ignore[reportPrivateUsage]


def let_go(farm: Farm, session: int) -> None:
    """Stops keeping a session alive."""
    farm._let_go(session)  # pyright: ignore[reportPrivateUsage]
