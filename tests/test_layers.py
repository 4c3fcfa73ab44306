"""The layers: a module imports lower layers and its own package, nothing else of the package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fedjax_het"

LAYERS = (
    "typing tree keys check permutation similarity extras columns buffers",
    "pool federation problem algorithm measure split assembly construct frames pooling transforms phases",
    "datasets heterogeneity models local metrics weighting",
    "algorithms engine analysis",
    "plots",
    "experiment theory",
    "advisor",
    "command_lists command_theory compile_cache",
    "cli",
    "__main__",
)
"""Units, lowest first: a module of the package, or a folder with all that is in it."""

LAYER = {unit: number for number, units in enumerate(LAYERS) for unit in units.split()}

MIXED = (0, 1)
"""Layers whose units may import each other."""

FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def unit_of(path: Path) -> str:
    """The unit that a file belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, unit) of every import of the package, also those inside functions; "" is the package itself."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: import by the full name"
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "fedjax_het" else [module]
        else:
            continue
        for name in names:
            first, *rest = name.split(".")
            if first == "fedjax_het":
                unit = rest[0] if rest else ""
                yield node.lineno, unit if unit in LAYER else ""


def test_every_unit_has_a_layer() -> None:
    assert {unit_of(path) for path in FILES} <= set(LAYER)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    unit = unit_of(path)
    for line, other in imported(path):
        where = f"{path.relative_to(PACKAGE)}:{line}"
        if other == "":  # names that the package re-exports: for programs on top of everything
            assert LAYER[unit] >= LAYER["cli"], f"{where} imports from the package itself"
            continue
        mine, theirs = LAYER[unit], LAYER[other]
        allowed = other == unit or theirs < mine or (theirs == mine and mine in MIXED)
        assert allowed, f"{where}: {unit} (layer {mine}) imports {other} (layer {theirs})"


def test_the_engine_and_the_algorithms_do_not_know_each_other() -> None:
    """The line that the design is about, said again without the table."""
    siblings = {"algorithms", "engine", "analysis"}
    for path in FILES:
        if unit_of(path) in siblings:
            strangers = siblings - {unit_of(path)}
            assert not {other for _, other in imported(path)} & strangers, path
