"""Plays: what each role says, read from plays in markdown.

A play is a sequence of blocks with blank lines between them. `**HAMLET**` on a line of its own opens a speech;
what follows is Hamlet's until the next such line or the next heading (`#`), stage directions taken out. These
stand in underscores, asterisks or brackets, `_Exeunt_`, `*Exeunt.*`, `_\\[Aside]_`, in a block of their own or
within a speech, over one line or more.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping

__all__ = ["speeches"]

BLANK = re.compile(r"\n\s*\n")
SPEAKER = re.compile(r"\*\*([^*\n]+)\*\*[ \t]*(?:\n|$)")
DIRECTIONS = re.compile(
    r"""_*\\?\[ [^\]\n]* (?:\][_*]*|_)   # in brackets, the closing one of which may be lost
      | _[^_]*_
      | \*[^*]*\*""",
    re.VERBOSE,
)


def speeches(text: str) -> Mapping[str, str]:
    """What each role of a play says from its first speech to its last.

    Spaces at either end of a line are dropped, runs of them made one; dashes are two hyphens. What stands
    under a heading before anybody is named is left out.

    Args:
        text: the play in markdown.

    Returns:
        role -> its lines, with newlines between them; roles that say nothing are not there.
    """
    spoken: dict[str, list[str]] = {}
    role = None
    for block in BLANK.split(text):
        block = block.strip()
        if block.startswith("#"):
            role = None
            continue
        named = SPEAKER.match(block)
        if named is not None:
            role, block = named[1].strip(), block[named.end() :]
        if role is not None:
            words = html.unescape(DIRECTIONS.sub("", block)).replace("\\", "").replace("\u2014", "--")
            lines = [" ".join(line.split()) for line in words.splitlines()]
            spoken.setdefault(role, []).extend(line for line in lines if line)
    return {role: "\n".join(lines) for role, lines in spoken.items() if lines}
