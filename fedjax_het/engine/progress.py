"""Progress of long work: a bar on a terminal and in a notebook, silence otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

__all__ = ["bar"]


@contextlib.contextmanager
def bar(label: str, total: int, show: bool | None = None) -> Iterator[Callable[[int, str], None]]:
    """A context that yields `advance(rounds, note)`.

    Args:
        label: what is being done.
        total: rounds of it.
        show: True or False to force; None shows a bar where a person is watching.
    """
    if show is False:
        yield lambda rounds, note: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, force_terminal=show)
    if not (show or console.is_terminal or console.is_jupyter):
        yield lambda rounds, note: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=total, note="compiling")
        yield lambda rounds, note: progress.update(task, advance=rounds, note=note)
