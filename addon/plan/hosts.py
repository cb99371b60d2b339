# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts of a farm a job asks for, by tags with commas between them."""

from __future__ import annotations

from collections.abc import Iterable


def tags(text: str) -> tuple[str, ...]:
    """Each once, in the order in which they are written."""
    found = (part.strip() for part in text.split(","))
    return tuple(dict.fromkeys(tag for tag in found if tag))


def completed(text: str, known: Iterable[str]) -> list[str]:
    """The text with each of the tags that are known in the place of the one that is begun last."""
    before, _, begun = text.rpartition(",")
    there = tags(before)
    start = "".join(f"{tag}, " for tag in there)
    fitting = sorted(tag for tag in known if begun.strip().lower() in tag.lower())
    return [start + tag for tag in fitting if tag not in there]


def lacking(wanted: tuple[str, ...]) -> str:
    """What is said when no host has them all."""
    has = f"the tag {wanted[0]}" if len(wanted) == 1 else f"all of the tags {', '.join(wanted)}"
    return f"no host of the farm has {has}: choose others, or tag one with `grange agent tag`"
