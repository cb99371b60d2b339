"""What the clients of instances need of a farm: protocols, so that tests can stand in for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol


class Api(Protocol):
    """JSON over HTTPS to one farm. Paths begin with `/api/v1/`. Every method raises `Refused` for
    what the farm answers with an error, and `NotConnected` where it does not answer."""

    def get(self, path: str, **query: Any) -> Any:
        """The answer's JSON."""
        ...

    def post(self, path: str, json: Any = None, headers: dict[str, str] | None = None) -> Any:
        """The answer's JSON."""
        ...

    def delete(self, path: str) -> Any:
        """The answer's JSON."""
        ...

    def lines(self, method: str, path: str, json: Any = None) -> Iterator[bytes]:
        """The answer's lines as they come."""
        ...

    def download(self, api_path: str, to: Path, length: int | None) -> None:
        """Saves a file of `length` bytes: whole, or not at all. Its folder has to be there."""
        ...


class Farm(Protocol):
    """A connected farm."""

    @property
    def api(self) -> Api:
        """The connection."""
        ...

    def room(self) -> int:
        """Instances that the farm runs at once now, those that are busy too; at least 1."""
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
