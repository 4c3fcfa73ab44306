"""How pictures look: one style file, a look for every method, legends outside the axes, and PNG files."""

from __future__ import annotations

import contextlib
import os
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedjax_het.check import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "DPI",
    "GREY",
    "LOSE",
    "WIN",
    "canvas",
    "finish",
    "key",
    "logarithmic",
    "looks",
    "plain",
    "save",
    "shorten",
    "steps",
    "styled",
]

STYLE = Path(__file__).with_name("fedjax_het.mplstyle")

DPI = 150
"""Dots per inch of a saved picture."""

WIN, LOSE, GREY = "#0072B2", "#D55E00", "#666666"
"""Colours of what is better, of what is worse, and of what is said beside the data."""

LINES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.3)), (0, (6, 1.5, 1.2, 1.5)))
MARKERS = "osD^vPX<>p"
"""Their numbers have no common divisor with the seven colours: the first 140 looks all differ."""

STEPS = 4000
"""Bars side by side beyond which they are thinner than a dot: a million would take a minute to draw."""

LINE_CHARACTERS = 15.5
"""Characters of a caption that fit on an inch."""

LONGEST_NAME = 26
"""Characters of a method's name that a legend shows."""


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Within it, what matplotlib makes has the style of `fedjax_het.mplstyle`; afterwards all is as before."""
    import matplotlib

    with matplotlib.rc_context(dict(matplotlib.rc_params_from_file(STYLE, use_default_template=False))):
        yield


def looks(count: int) -> list[dict[str, Any]]:
    """Colour, line style and marker of each of `count` methods; a place looks the same everywhere."""
    import matplotlib

    with styled():
        colours = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
    return [
        {
            "color": colours[i % len(colours)],
            "linestyle": LINES[i % len(LINES)],
            "marker": MARKERS[i % len(MARKERS)],
        }
        for i in range(count)
    ]


def canvas(
    title: str, *, rows: int = 1, columns: int = 1, width: float = 8.0, height: float = 4.5, share: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure with a title and its axes, row by row; no window, no display, no state of pyplot.

    Args:
        title: what is shown.
        rows: of axes.
        columns: of axes.
        width: inches.
        height: inches.
        share: whether all axes have the same limits.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, x=0.012, ha="left")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share)
    return figure, list(axes.ravel())


def shorten(name: str, longest: int = LONGEST_NAME) -> str:
    """`name` with its middle left out if it is long: names of sweeps differ at both ends."""
    if len(name) <= longest:
        return name
    tail = (longest - 1) // 2
    return f"{name[: longest - 1 - tail]}…{name[-tail:]}"


def plain(texts: Sequence[Any]) -> None:
    """Show texts as they are: a method's name may hold a dollar sign, which is no formula."""
    for text in texts:
        text.set_parse_math(False)


def key(figure: Figure, handles: Sequence[Any], texts: Sequence[str], title: str) -> None:
    """A legend on the right of the axes, where it covers nothing.

    Args:
        figure: whose.
        handles: what is explained.
        texts: in words.
        title: what the texts say.
    """
    # set afterwards: a label that begins with an underscore would be left out
    legend = figure.legend(handles, [str(i) for i in range(len(texts))], loc="outside right upper", title=title)
    for text, words in zip(legend.get_texts(), texts):
        text.set_text(words)
    plain(legend.get_texts())
    legend._legend_box.align = "left"  # pyright: ignore[reportAttributeAccessIssue]


def logarithmic(axes: Axes) -> None:
    """A logarithmic axis y: 0.1, 0.2, 0.5, 1 over few decades, where powers of ten would be two labels."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < 3000 * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1, 3)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axes.yaxis.set_minor_locator(NullLocator())


def steps(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(heights, edges) of one bar a client, the i-th around i; of very many sorted values, evenly spaced ones.

    Args:
        values: sorted, [N].
    """
    many = len(values)
    if many > STEPS:
        values = values[np.linspace(0, many - 1, STEPS).round().astype(int)]
    return values, np.linspace(0.5, many + 0.5, len(values) + 1)


def finish(figure: Figure, caption: str) -> Figure:
    """`figure` with a caption below the axes, laid out.

    Args:
        figure: with all that it shows.
        caption: how to read it.
    """
    characters = int(figure.get_size_inches()[0] * LINE_CHARACTERS)
    words = "\n".join(textwrap.wrap(caption, characters, break_long_words=False))
    text = figure.supxlabel(words, x=0.012, ha="left", fontsize=8, color=GREY)
    plain([text])
    # ticks are made when first drawn: now, while the style holds
    figure.draw_without_rendering()
    return figure


def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a picture as PNG; whoever reads the file sees the old one or the whole new one.

    Args:
        figure: of a function of `fh.plots`, or any other of matplotlib.
        path: where to; ends in .png, and its folder exists.

    Returns:
        The path.

    Raises:
        ValueError: another ending, or no such folder.
    """
    path = Path(path)
    require(path.suffix == ".png", f"path must end in .png, got {str(path)!r}: pictures are written as PNG")
    require(
        path.parent.is_dir(),
        f"path must lie in a folder that exists, got {str(path)!r}: create {str(path.parent)!r} first",
    )
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with styled():
            figure.savefig(part, format="png", dpi=DPI)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path
