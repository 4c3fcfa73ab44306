"""Every test runs with four CPU devices, strict dtype promotion and no rank promotion; warnings are errors.

Tests run in as many processes as there are cores (`-n 0` for one, which a debugger needs); the tests of one
file, or of one conformance case, stay together, so that what they compile or prepare is made once.

Programs are compiled with little optimising, which takes a third of the time; what must hold of the bits as
they ship, the conformance suite compiles as they ship. XLA_FLAGS=" " optimises everything.
Compiled programs are not cached on disk: a test says what this checkout compiles, and times are comparable. To
keep them between runs anyway, set JAX_COMPILATION_CACHE_DIR.
"""

from __future__ import annotations

import collections
import gc
import importlib.metadata
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes may share one GPU
# read once, when jax starts; jax 0.11 and later know only the first, and stop at a flag they do not know
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0"
    + " --xla_cpu_use_fusion_emitters=false" * importlib.metadata.version("jax").startswith("0.10."),
)
os.environ["FEDJAX_HET_COMPILE_CACHE"] = ""  # what is compiled here is compiled for tests

import jax
import pytest

# tracing makes many objects and few cycles, and a worker's heap grows to millions: the default looks too often
gc.set_threshold(100_000, 50, 100)

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

BUDGET = {
    "conformance": 1800,
    "probes_checks": 200,
    "engine": 320,
    "algorithms": 1200,
    "experiment": 620,
    "models": 180,
    "local": 120,
    "(top)": 220,
    "plots": 100,
    "metrics": 60,
    "analysis": 520,
    "theory": 160,
    "heterogeneity": 500,
    "sampling": 120,
    "weighting": 120,
    "datasets": 120,
    "natural": 120,
    "adapters": 60,
    "bench": 300,
}
"""Seconds that an area (a folder of tests) may take, all processes together: twice the time on 2 cores."""


PROGRAMS = 2000
"""Programs that a process may hold. Each is about six mapped regions of memory, of which Linux allows 65,530:
past that the compiler dies of a segmentation fault."""


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


class _Programs:
    """Counts what is compiled, and lets it go between two tests once there are `PROGRAMS` of it."""

    def __init__(self) -> None:
        self.held = 0
        jax.monitoring.register_event_duration_secs_listener(self._compiled)

    def _compiled(self, event: str, duration: float, **_: str | int) -> None:
        self.held += event == "/jax/core/compile/backend_compile_duration"

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self) -> None:
        if self.held >= PROGRAMS:
            jax.clear_caches()
            self.held = 0


def pytest_addoption(parser: pytest.Parser) -> None:
    """An option for runs in which everything needed is installed."""
    parser.addoption("--no-skips", action="store_true", help="a skipped test fails the run")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With --no-skips, a run that skipped a test has failed; what was skipped is listed below."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--no-skips") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_configure(config: pytest.Config) -> None:
    """Start the clock and the count of programs."""
    config.pluginmanager.register(_Clock(), "areas")
    config.pluginmanager.register(_Programs(), "programs")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is not grouped otherwise is grouped by file."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.split("::")[0]))
