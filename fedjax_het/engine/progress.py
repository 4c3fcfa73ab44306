"""Progress of long work: a bar on a terminal and in a notebook, silence otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

__all__ = ["bar"]


@contextlib.contextmanager
def bar(
    label: str, total: int, show: bool | None = None
) -> Iterator[tuple[Callable[[int, str], None], Callable[[str], None]]]:
    """A context that yields `advance(rounds, note)` and `say(text)`; both are silent where nobody watches.

    Args:
        label: what is being done.
        total: rounds of it.
        show: True or False to force; None shows a bar where a person is watching.
    """
    silent = (lambda rounds, note: None), (lambda text: None)
    if show is False:
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, force_terminal=show)
    if not (show or console.is_terminal or console.is_jupyter):
        yield silent
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
        yield (
            lambda rounds, note: progress.update(task, advance=rounds, note=note),
            lambda text: progress.console.print(text, style="yellow", highlight=False),
        )
