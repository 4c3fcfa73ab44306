"""Files are whole, of the right size, in one style, and pyplot stays out of it."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure

from fedjax_het.plots import metric_by_round, save
from fedjax_het.plots.style import looks, shorten, styled
from plots.made import seeds


def pixels(path: Path) -> tuple[int, int]:
    """Width and height in a PNG's header."""
    head = path.read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", head[16:])
    return width, height


def test_a_picture_has_150_dots_an_inch(tmp_path: Path) -> None:
    path = save(metric_by_round(seeds(2)), tmp_path / "accuracy.png")
    assert pixels(path) == (1200, 675)
    assert [p.name for p in tmp_path.iterdir()] == ["accuracy.png"]


def test_the_same_history_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (save(metric_by_round(seeds(2)), tmp_path / f"{i}.png").read_bytes() for i in (1, 2))
    assert first == second


def test_a_failed_write_leaves_the_old_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    class Broken(Figure):
        def savefig(self, fname: object, **options: object) -> None:
            Path(str(fname)).write_bytes(b"half")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        save(Broken(), path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_wrong_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.png"):
        save(Figure(), tmp_path / "a.pdf")
    with pytest.raises(ValueError, match="folder that exists"):
        save(Figure(), tmp_path / "none" / "a.png")


def test_the_users_own_settings_come_back() -> None:
    before = dict(matplotlib.rcParams)
    metric_by_round(seeds(2))
    assert dict(matplotlib.rcParams) == before


def test_the_users_own_settings_change_no_picture(tmp_path: Path) -> None:
    plain = save(metric_by_round(seeds(2)), tmp_path / "plain.png").read_bytes()
    with matplotlib.rc_context({"axes.grid": False, "font.size": 20, "xtick.labelsize": 4, "savefig.dpi": 30}):
        assert save(metric_by_round(seeds(2)), tmp_path / "own.png").read_bytes() == plain


def test_looks_differ() -> None:
    assert len({str(look) for look in looks(140)}) == 140
    with styled():
        assert matplotlib.rcParams["font.size"] == 10


def test_long_names_keep_both_ends() -> None:
    assert shorten("fedavg") == "fedavg"
    assert shorten("a" * 20 + "-middle-" + "b" * 20) == "a" * 13 + "…" + "b" * 12


def test_importing_plots_loads_no_matplotlib_and_drawing_no_pyplot() -> None:
    program = (
        "import sys, fedjax_het.plots as plots; assert 'matplotlib' not in sys.modules; "
        "plots.client_sizes([3, 4]); assert 'matplotlib.figure' in sys.modules; "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
