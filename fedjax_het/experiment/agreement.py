"""Agreement: how what was saved differs from what is asked for, said so that a person can mend it."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["MOST", "differences", "listed"]

MOST = 20
"""Differences that a message lists."""


def differences(saved: Any, asked: Any, name: str = "") -> list[str]:
    """`dotted.key: saved != asked` of each entry that differs, in the order of the saved ones.

    Args:
        saved: JSON.
        asked: JSON.
        name: the key under which both lie.
    """
    if isinstance(saved, dict) and isinstance(asked, dict):
        lines = []
        for key in saved | asked:
            dotted = f"{name}.{key}" if name else key
            if key in saved and key in asked:
                lines += differences(saved[key], asked[key], dotted)
            else:
                one, other = (json.dumps(d[key]) if key in d else "absent" for d in (saved, asked))
                lines.append(f"{dotted}: {one} != {other}")
        return lines
    # as text, for which NaN equals NaN and 1 differs from True
    one, other = (json.dumps(value, sort_keys=True) for value in (saved, asked))
    return [] if one == other else [f"{name or 'config'}: {one} != {other}"]


def listed(lines: list[str]) -> str:
    """The first `MOST` of the lines, indented, and how many more there are."""
    more = [f"  and {len(lines) - MOST} more"] if len(lines) > MOST else []
    return "\n".join([f"  {line}" for line in lines[:MOST]] + more)
