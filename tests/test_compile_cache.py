"""What one process compiled, the next one loads, unless it is told not to."""

import os
import subprocess
import sys

import jax
import pytest

from fedjax_het import compile_cache

SCRIPT = """
import jax, jax.numpy as jnp
from fedjax_het import compile_cache
seen = []
jax.monitoring.register_event_listener(lambda name, **_: seen.append(name))
folder = compile_cache.turn_on()
print(float(jax.jit(lambda x: jnp.sin(x) * 2)(jnp.float32(0.5))))
print(folder, *(seen.count(f"/jax/compilation_cache/cache_{kind}") for kind in ("hits", "misses")))
"""


@pytest.fixture
def unchanged():
    """Nothing of this process's configuration may move."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = [getattr(jax.config, name) for name in names]
    yield
    assert [getattr(jax.config, name) for name in names] == before


def told(**variables):
    """(result, folder, hits, misses) of a process of its own."""
    environment = {**os.environ, **variables}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    value, line = done.stdout.splitlines()
    folder, hits, misses = line.rsplit(" ", 2)
    return float(value), folder, int(hits), int(misses)


def test_a_second_process_loads_what_the_first_compiled(tmp_path):
    folder = tmp_path / "compiled"
    first = told(FEDJAX_HET_COMPILE_CACHE=str(folder))
    second = told(FEDJAX_HET_COMPILE_CACHE=str(folder))
    assert first[1] == second[1] == str(folder) and any(folder.iterdir())
    assert first[2] == 0 and first[3] > 0, "small programs are kept too"
    assert second[2] > 0 and second[3] == 0
    assert first[0] == second[0]


def test_where_it_lies_if_nothing_is_said(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != compile_cache.VARIABLE}
    environment |= {"XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", "from fedjax_het import compile_cache; print(compile_cache.turn_on())"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == str(tmp_path / "fedjax_het" / "compiled")


def test_empty_turns_it_off(monkeypatch, unchanged):
    monkeypatch.setenv(compile_cache.VARIABLE, "")
    assert compile_cache.turn_on() is None


def test_a_folder_that_cannot_be_is_no_error(monkeypatch, unchanged, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(compile_cache.VARIABLE, str(tmp_path / "file" / "folder"))
    assert compile_cache.turn_on() is None
