"""Lines of a result: ours, the paper's, what is allowed, and the verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

__all__ = ["Row", "least", "more", "most", "near", "show", "told"]


@dataclasses.dataclass(frozen=True)
class Row:
    """One quantity.

    Attributes:
        name: what it is, with its unit.
        ours: what came out.
        paper: what the paper or the closed form has, None if nothing is printed there.
        allowed: the range, in words; "" if nothing is asked of it.
        passed: whether ours lies in the range; None if nothing is asked of it.
    """

    name: str
    ours: float
    paper: float | None = None
    allowed: str = ""
    passed: bool | None = None


def near(name: str, ours: float, paper: float, tolerance: float) -> Row:
    """|ours - paper| <= tolerance."""
    return Row(name, float(ours), float(paper), f"+- {tolerance:g}", bool(abs(ours - paper) <= tolerance))


def least(name: str, ours: float, bound: float, paper: float | None = None) -> Row:
    """ours >= bound."""
    return Row(name, float(ours), paper, f">= {bound:g}", bool(ours >= bound))


def more(name: str, ours: float, bound: float, paper: float | None = None) -> Row:
    """ours > bound."""
    return Row(name, float(ours), paper, f"> {bound:g}", bool(ours > bound))


def most(name: str, ours: float, bound: float, paper: float | None = None) -> Row:
    """ours <= bound."""
    return Row(name, float(ours), paper, f"<= {bound:g}", bool(ours <= bound))


def told(name: str, ours: float, paper: float | None = None) -> Row:
    """Printed, and nothing asked of it."""
    return Row(name, float(ours), paper)


def show(rows: Sequence[Row]) -> str:
    """The rows as a table."""
    width = max(len(row.name) for row in rows)
    verdict = {True: "PASS", False: "FAIL", None: ""}
    lines = [f"{'':{width}}  {'ours':>12}  {'paper':>12}  {'allowed':>12}"]
    for row in rows:
        paper = "" if row.paper is None else f"{row.paper:.6g}"
        line = f"{row.name:{width}}  {row.ours:12.6g}  {paper:>12}  {row.allowed:>12}  {verdict[row.passed]}"
        lines.append(line.rstrip())
    return "\n".join(lines)
