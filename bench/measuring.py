"""What every bench measures with: one core, the machine's matrix rate, quartiles, interleaved runs."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["interleaved", "matrix_rate", "one_core", "quartiles", "ratio"]


def one_core() -> int:
    """Keep this process, XLA and PyTorch to one core; call before JAX starts its backend.

    Returns:
        The core's number, -1 where the system cannot pin a process.
    """
    flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
    os.environ["JAX_PLATFORMS"] = "cpu"
    jax.config.update("jax_platforms", "cpu")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    if sys.platform != "linux":
        return -1
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core


def _best(call: Callable[[], Any], seconds: float, clock: Callable[[], float]) -> float:
    call()
    best, end = math.inf, clock() + seconds
    while clock() < end:
        begin = clock()
        call()
        best = min(best, clock() - begin)
    return best


def matrix_rate(seconds: float, size: int = 1024, clock: Callable[[], float] = time.process_time) -> float:
    """The best GFLOP/s of a size^3 float32 product within `seconds`, by JAX, and by PyTorch where it is loaded.

    Args:
        seconds: spent on each library.
        size: rows and columns.
        clock: CPU time by default; `time.perf_counter` for an accelerator or several cores.
    """
    a = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
    in_jax, product = jnp.asarray(a), jax.jit(jnp.matmul)
    best = _best(lambda: product(in_jax, in_jax).block_until_ready(), seconds, clock)
    if "torch" in sys.modules:
        in_torch = sys.modules["torch"].from_numpy(a)
        best = min(best, _best(lambda: in_torch @ in_torch, seconds, clock))
    return 2 * size**3 / best / 1e9


def quartiles(values: Any) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = np.quantile(np.asarray(values, float), (0.25, 0.5, 0.75))
    return {"median": float(middle), "q1": float(low), "q3": float(high)}


def ratio(above: Any, below: Any) -> dict[str, float]:
    """Median and quartiles of the ratios taken pair by pair."""
    return quartiles(np.asarray(above, float) / np.asarray(below, float))


def interleaved(
    runs: Mapping[str, Callable[[], Any]],
    pairs: int,
    *,
    clock: Callable[[], float] = time.process_time,
    label: str = "",
) -> dict[str, list[float]]:
    """Seconds of every run in every pair; the order rotates, so that a slow minute hits all of them.

    Args:
        runs: what to run, by name; each must be warm, and wait for its own results.
        pairs: how often each runs.
        clock: CPU time by default; `time.perf_counter` where several processes or devices work.
        label: of the progress on standard error.
    """
    names, seconds = list(runs), {name: [] for name in runs}
    for pair in range(pairs):
        turn = pair % len(names)
        for name in names[turn:] + names[:turn]:
            begin = clock()
            runs[name]()
            seconds[name].append(clock() - begin)
        print(f"{label}pair {pair + 1} of {pairs}", file=sys.stderr, flush=True)
    return seconds
