"""Connect strings: all that a client needs to reach a farm, in one line.

`grange+https://TOKEN@HOST:PORT?ca=SHA256&or=HOST:PORT`, as `grange token create --api` prints it.
Here it is read and found; nothing is connected to.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from .errors import NotConnected

VARIABLE = "GRANGE_CONNECT"
SCHEME = "grange+https"

_HOW = (
    "make a connect string with `grange token create --api --role submitter` and give it to "
    f"`grange.connect()`, or set {VARIABLE} to it, or write it to {{file}}; `grange.local()` "
    "renders on this machine without one"
)


@dataclass(frozen=True)
class Connect:
    """A connect string, read."""

    addresses: tuple[tuple[str, int], ...]
    """Host and port, in the order to try them; at least one."""
    token: str = field(repr=False)
    """32 hexadecimal digits, a secret."""
    ca: str
    """SHA-256 of the farm's CA certificate (DER), 64 hexadecimal digits in lower case."""

    @classmethod
    def parse(cls, text: str) -> Connect:
        """Reads a connect string. Raises `ValueError`, without the secret, if it is none."""
        url = urlsplit(text.strip())
        query = parse_qs(url.query)
        token = url.username or ""
        ca = query.get("ca", [""])[-1].lower()
        if url.scheme != SCHEME or not url.hostname:
            raise ValueError(
                f"this is no connect string: one begins with {SCHEME}://, and `grange token create "
                "--api` prints it"
            )
        if not re.fullmatch(r"[0-9A-Fa-f]{32}", token) or not re.fullmatch(r"[0-9a-f]{64}", ca):
            raise ValueError(
                "the connect string is not whole: paste the line that `grange token create --api` "
                "prints, with its token and its `ca`"
            )
        own = url.netloc.rpartition("@")[2]
        addresses = tuple(_address(address) for address in (own, *query.get("or", [])))
        return cls(addresses=addresses, token=token, ca=ca)


def find(where: str | None = None) -> Connect:
    """The connect string that is meant: `where`, else `GRANGE_CONNECT`, else the user's file.

    Raises `NotConnected` if there is none, and `ValueError` for one that cannot be read.
    """
    if where is not None:
        return Connect.parse(where)
    if told := os.environ.get(VARIABLE, "").strip():
        return Connect.parse(told)
    path = file()
    try:
        told = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        told = ""
    except OSError as error:
        raise NotConnected(f"{path} cannot be read ({error.strerror}): make it readable") from None
    if not told:
        raise NotConnected("no farm is configured: " + _HOW.format(file=path))
    return Connect.parse(told)


def is_configured() -> bool:
    """Whether there is a connect string in the environment or in the user's file, so that
    `connect()` has a farm to try.
    """
    return bool(os.environ.get(VARIABLE, "").strip()) or file().exists()


def file() -> Path:
    """The file with the user's connect string, which need not be there."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Path(base, "grange", "connect")


def _address(text: str) -> tuple[str, int]:
    url = urlsplit(f"//{text}")
    try:
        host, port = url.hostname, url.port
    except ValueError:
        host, port = None, None
    if not host or not port:
        raise ValueError(f"`{text}` in the connect string is not HOST:PORT: paste the whole line")
    return host, port
