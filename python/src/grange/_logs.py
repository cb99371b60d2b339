"""What Blender printed in a session, as a file for each."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from ._session import Session
from .errors import GrangeError

PATIENCE_S = 5.0
"""A log reaches the farm a moment after its instance has ended."""


def save(session: Session, name: str, log_dir: Path) -> Path | None:
    """Writes the logs of a session that has ended to `NAME-ID.log`, and gives the path; none if the
    farm has no log of it. Blocks for up to 5 s.
    """
    deadline, pause = time.monotonic() + PATIENCE_S, 0.05
    while not (texts := read(session)):
        if time.monotonic() > deadline:
            return None
        time.sleep(pause)
        pause *= 2
    log_dir.mkdir(parents=True, exist_ok=True)
    plain = re.sub(r"[^\w.-]", "_", name)
    path = log_dir / f"{plain}-{session.id}.log"
    path.write_text("\n".join(texts), "utf-8")
    return path


def read(session: Session) -> list[str]:
    """Texts of its attempts, the first one first. None if the farm cannot be asked."""
    texts: list[str] = []
    cursor: str | None = None
    try:
        while True:
            page: dict[str, Any] = session.farm.api.get(
                f"/api/v1/jobs/{session.id}/logs", **({"cursor": cursor} if cursor else {})
            )
            texts += [item["text"] for item in page["items"]]
            cursor = page["next"]
            if not cursor:
                return texts[::-1]
    except GrangeError:
        return []
