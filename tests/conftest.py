"""Every test runs with four CPU devices, strict dtype promotion and no rank promotion; warnings are errors.

Compiled programs are not cached on disk: a test says what this checkout compiles, and times are comparable. To
keep them between runs anyway, set JAX_COMPILATION_CACHE_DIR.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

BUDGET = {"conformance": 480}
"""Seconds that an area (a folder of tests) may take on 2 idle cores."""


@pytest.fixture
def x64() -> Iterator[None]:
    """Double precision for one test: build everything inside."""
    with jax.enable_x64(True):
        yield


class _Clock:
    """Adds up the time of the tests by area."""

    def __init__(self) -> None:
        self.seconds: collections.Counter[str] = collections.Counter()
        self.tests: collections.Counter[str] = collections.Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        folders = Path(report.nodeid.split("::")[0]).parts[1:-1]
        area = folders[0] if folders else "(top)"
        self.seconds[area] += report.duration
        self.tests[area] += report.when == "call"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        out = terminalreporter
        skipped = out.stats.get("skipped", [])
        out.section("time by area")
        for area, seconds in self.seconds.most_common():
            budget = BUDGET.get(area)
            limit = "" if budget is None else f"   budget {budget} s"
            over = "   OVER BUDGET" if budget is not None and seconds > budget else ""
            out.write_line(f"{area:14s} {seconds:7.1f} s {self.tests[area]:6d} tests{limit}{over}")
        out.write_line(f"skipped: {len(skipped)}")
        for report in skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            out.write_line(f"  {report.nodeid}: {reason}")


def pytest_configure(config: pytest.Config) -> None:
    """Start the clock."""
    config.pluginmanager.register(_Clock(), "areas")
