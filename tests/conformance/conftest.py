"""A lab for each case and precision: set up once, all its tests in a row, then let go."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest

from conformance.cases import CASES
from conformance.lab import Lab

SHIPPED = [pytest.param((name, False), id=name) for name in CASES]
DOUBLE = [pytest.param((name, True), id=f"{name}-x64") for name in CASES]


@pytest.fixture(scope="session")
def _lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    name, double = request.param
    with jax.enable_x64(double):
        lab = Lab(name, double)
    yield lab


@pytest.fixture
def lab(_lab: Lab) -> Iterator[Lab]:
    """The case at hand; the precision is on while its test runs."""
    with jax.enable_x64(_lab.double):
        yield _lab


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that ask for a lab run for every case, in both precisions unless marked as of one."""
    if "lab" not in metafunc.fixturenames:
        return
    precision = metafunc.definition.get_closest_marker("precision")
    labs = {"float32": SHIPPED, "float64": DOUBLE}
    chosen = SHIPPED + DOUBLE if precision is None else labs[precision.args[0]]
    metafunc.parametrize("_lab", chosen, indirect=True, scope="session")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", "precision(name): of one precision, float32 or float64")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of a lab stay together; the first case in float32 belongs to the smoke tests."""
    first = SHIPPED[0].values[0]
    for item in items:
        call = getattr(item, "callspec", None)
        if call is None or "_lab" not in call.params:
            continue
        name, double = call.params["_lab"]
        item.add_marker(pytest.mark.xdist_group(f"{name}-x64" if double else name))
        if call.params["_lab"] == first:
            item.add_marker(pytest.mark.smoke)
