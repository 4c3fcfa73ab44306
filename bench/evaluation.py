"""What an evaluation costs: the engine's pass over 1,000 clients against one flat pass over the same rows.

The workload is W2 of `workloads.py`: 1,000 clients of 60 rows, MLP 784-200-10, initial weights. Two questions:

- One global model. `global` is what `fh.evaluate` does for it: every default metric (loss, accuracy, balanced
  accuracy) of the union and of each client, rows where the pool has them. `evaluate` is all of `fh.evaluate`
  for FedAvg. `flat` is a hand-written program that knows of no clients: rows laid out beforehand in the order
  of the clients, batches of 1024, mean loss and accuracy. `global` may cost 1.3 times as much.
- A model for each client. `own` is `fh.evaluate` of local training; `own-hand` is a hand-written scan over
  clients, rows laid out beforehand, mean loss and accuracy of each.

One run on one core, CPU time, interleaved pairs, ratios within a pair; compilation and the first run are left
out. All must give the loss of a float64 NumPy pass to six digits, or there is no
ratio at all. The floor is the
forward pass's floating point operations over the best rate of a 1024 x 1024 x 1024 product seen in this run.

    python bench/evaluation.py --pairs 20 --json evaluation.json
    python bench/evaluation.py --tiny --pairs 2
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import workloads
from jax import lax
from measuring import matrix_rate, one_core, quartiles

import fedjax_het as fh
from fedjax_het.construct import assemble

BAR = 1.3
"""`global` over `flat`, at most."""

ROWS = 1024
"""Rows of a batch of the flat pass."""

RATIOS = (
    ("global", "flat"),
    ("evaluate", "flat"),
    ("own", "own-hand"),
    ("flat", "floor"),
    ("own", "floor"),
    ("own-hand", "floor"),
)

Run = Callable[[], tuple[float, float]]
"""Evaluates once, waits, and returns (mean loss, mean accuracy) over all rows."""


def scale(workload: workloads.Workload) -> np.ndarray:
    """What each client's own model is, in units of the initial weights; float32 [N]."""
    return np.linspace(0.8, 1.2, len(workload.rows)).astype(np.float32)


def engine(workload: workloads.Workload, name: str) -> Run:
    """The library's evaluation: "global", "evaluate" or "own"."""
    pool = fh.pool(workload.x, workload.y, num_classes=10, name=workload.name)
    empty = [np.zeros(0, np.int32)] * len(workload.rows)
    federation = assemble(pool, workload.rows, empty, empty)
    problem = fh.models.mlp(pool, hidden=(workload.params["dense_0"]["bias"].size,))
    method = fh.algorithms.local_only if name == "own" else fh.algorithms.fedavg
    algorithm = method(problem, fh.local.sgd(learning_rate=0.1, batch_size=workload.batch))
    round_fn = fh.make_round(fh.sampling.everyone(), fh.executors.auto())
    start = jax.tree.map(jnp.asarray, workload.params)
    state = jax.eval_shape(
        lambda key: fh.initial_state(algorithm, federation, key=key, round_fn=round_fn), jax.random.key(0)
    )
    if name == "own":
        factor = jnp.asarray(scale(workload))
        params = jax.tree.map(lambda leaf: factor.reshape(-1, *[1] * leaf.ndim) * leaf[None], start)
        server, clients = state.server, dataclasses.replace(state.clients, params=params)
    else:
        server, clients = dataclasses.replace(state.server, params=start), state.clients
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), state.seen)
    state = dataclasses.replace(
        state, round=jnp.int32(0), key=jax.random.key(0), server=server, clients=clients, seen=zeros
    )

    def scores(algorithm: Any, state: Any, federation: Any) -> Any:
        seen = fh.evaluate(algorithm, state, federation, split="train")
        return (seen.union, seen.shared) if name == "global" else seen

    run = jax.jit(scores)

    def once() -> tuple[float, float]:
        seen = jax.block_until_ready(run(algorithm, state, federation))
        if name == "own":
            weight = workload.sizes / workload.sizes.sum()
            loss, accuracy = (np.asarray(seen.personal[m], np.float64) for m in ("loss", "accuracy"))
            return float(loss @ weight), float(accuracy @ weight)
        union = seen[0] if name == "global" else seen.union
        return float(union["loss"]), float(union["accuracy"])

    return once


def _scores(params: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(summed loss, rows right) of a batch."""
    hidden = jax.nn.relu(x @ params["dense_0"]["kernel"] + params["dense_0"]["bias"])
    out = hidden @ params["head"]["kernel"] + params["head"]["bias"]
    chosen = jnp.take_along_axis(out, y[:, None], axis=1)[:, 0]
    right = (jnp.argmax(out, axis=1) == y).astype(jnp.float32)
    return jnp.sum(jax.nn.logsumexp(out, axis=1) - chosen), jnp.sum(right)


def flat(workload: workloads.Workload) -> Run:
    """One model over all rows, which lie contiguously; who holds them is not known."""
    order = np.concatenate(workload.rows)
    x, y = jnp.asarray(workload.x[order]), jnp.asarray(workload.y[order])
    params = jax.tree.map(jnp.asarray, workload.params)
    whole = len(order) // ROWS

    def one_pass(params: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        def visit(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            batch = (lax.dynamic_slice_in_dim(a, i * ROWS, ROWS) for a in (x, y))
            return jax.tree.map(jnp.add, carry, _scores(params, *batch))

        total = lax.fori_loop(0, whole, visit, (jnp.zeros(()), jnp.zeros(())))
        rest = _scores(params, x[whole * ROWS :], y[whole * ROWS :])
        return jax.tree.map(lambda a, b: (a + b) / len(order), total, rest)

    run = jax.jit(one_pass)

    def once() -> tuple[float, float]:
        loss, accuracy = jax.block_until_ready(run(params, x, y))
        return float(loss), float(accuracy)

    return once


def own_by_hand(workload: workloads.Workload) -> Run:
    """Every client's own model on its rows, which lie contiguously; all clients hold equally many."""
    clients, size = len(workload.rows), len(workload.rows[0])
    order = np.concatenate(workload.rows)
    x = jnp.asarray(workload.x[order].reshape(clients, size, -1))
    y = jnp.asarray(workload.y[order].reshape(clients, size))
    factor = scale(workload)
    models = jax.tree.map(
        lambda leaf: jnp.asarray(factor.reshape(-1, *[1] * leaf.ndim) * leaf[None]), workload.params
    )
    run = jax.jit(lambda models, x, y: lax.map(lambda client: _scores(*client), (models, x, y)))

    def once() -> tuple[float, float]:
        loss, right = jax.block_until_ready(run(models, x, y))
        return float(np.asarray(loss, np.float64).sum() / y.size), float(np.asarray(right).sum() / y.size)

    return once


SYSTEMS: dict[str, Callable[[workloads.Workload], Run]] = {
    "flat": flat,
    "global": lambda workload: engine(workload, "global"),
    "evaluate": lambda workload: engine(workload, "evaluate"),
    "own-hand": own_by_hand,
    "own": lambda workload: engine(workload, "own"),
}


def references(workload: workloads.Workload) -> tuple[float, float]:
    """(loss of the global model, mean loss of the clients' own) over all rows, in float64 NumPy."""
    own = 0.0
    for factor, rows in zip(scale(workload), workload.rows):
        params = jax.tree.map(factor.__mul__, workload.params)
        own += len(rows) * workloads.evaluate(dataclasses.replace(workload, rows=[rows]), params)
    return workloads.evaluate(workload, workload.params), own / float(workload.sizes.sum())


def check(workload: workloads.Workload, runs: dict[str, Run]) -> dict[str, Any]:
    """The first run of each system, compilation included: {system: {"loss", "accuracy", ...}}."""
    first: dict[str, Any] = {}
    reference, own = references(workload)
    for name, run in runs.items():
        begin = time.perf_counter()
        loss, accuracy = run()
        seconds = time.perf_counter() - begin
        agrees = math.isclose(loss, own if name.startswith("own") else reference, rel_tol=1e-6)
        first[name] = {"loss": loss, "accuracy": accuracy, "agrees": agrees, "first_s": seconds}
    return first


def measure(runs: dict[str, Run], pairs: int) -> tuple[dict[str, list[float]], float]:
    """(CPU milliseconds of every system in every pair, the best rate of a matrix product)."""
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    names, rate = list(runs), matrix_rate(0.5)
    for pair in range(pairs):
        turn = pair % len(names)
        for name in names[turn:] + names[:turn]:
            begin = time.process_time()
            runs[name]()
            cpu[name].append((time.process_time() - begin) * 1e3)
        rate = max(rate, matrix_rate(0.1))
        print(f"pair {pair + 1} of {pairs}", file=sys.stderr, flush=True)
    return cpu, rate


def show(report: dict[str, Any]) -> None:
    """The table."""
    print(f"W2, {report['clients']} clients, {report['rows']} rows: floor {report['floor_ms']:.1f} ms")
    print(f"{'':24}{'median':>10}{'q1':>10}{'q3':>10}")
    for title, kind in (("CPU ms", "cpu_ms"), ("", "ratios")):
        for row, values in report[kind].items():
            cells = "".join(f"{values[k]:10.3f}" for k in ("median", "q1", "q3"))
            print(f"{f'{row} {title}':24}{cells}")
    print(f"matrix product: {report['matrix_gflops']:.1f} GFLOP/s")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=20, help="interleaved pairs (20)")
    parser.add_argument("--tiny", action="store_true", help="small sizes and no bar, for a smoke test")
    parser.add_argument("--json", metavar="FILE", help="where the results go; default: standard output")
    return parser.parse_args()


def main() -> int:
    """Run it; 1 if a loss disagrees or the bar is passed."""
    options = arguments()
    core = one_core()
    workload = workloads.load("W2", tiny=options.tiny)
    runs = {name: build(workload) for name, build in SYSTEMS.items()}
    first = check(workload, runs)
    report: dict[str, Any] = {
        "machine": {"core": core, "processor": platform.processor() or platform.machine()},
        "versions": {"python": platform.python_version(), "jax": jax.__version__},
        "pairs": options.pairs,
        "tiny": options.tiny,
        "clients": len(workload.rows),
        "rows": int(workload.sizes.sum()),
        "bar": BAR,
        "first": first,
    }
    failed = [name for name, outcome in first.items() if not outcome["agrees"]]
    if failed:
        losses = ", ".join(f"{name} {outcome['loss']:.9g}" for name, outcome in first.items())
        print(f"FAIL {', '.join(failed)}: results differ: {losses}")
    else:
        times, rate = measure(runs, options.pairs)
        # workload.flops counts forward and backward; a forward pass alone is two operations a weight
        weights = sum(np.prod(layer["kernel"].shape) for layer in workload.params.values())
        floor = 2 * float(weights) * report["rows"] / rate / 1e6
        cpu = {name: np.asarray(values) for name, values in times.items()} | {"floor": np.asarray(floor)}
        report |= {"matrix_gflops": rate, "floor_ms": floor, "all_cpu_ms": times}
        report["cpu_ms"] = {name: quartiles(values) for name, values in times.items()}
        report["ratios"] = {f"{a}/{b}": quartiles(cpu[a] / cpu[b]) for a, b in RATIOS}
        show(report)
        ratio = report["ratios"]["global/flat"]["median"]
        if ratio > BAR and not options.tiny:
            failed.append("global/flat")
            print(f"FAIL global/flat: {ratio:.3f} is above {BAR}")
    text = json.dumps(report, indent=2)
    if options.json:
        with open(options.json, "w") as stream:
            stream.write(text + "\n")
    else:
        print(text)
    return int(bool(failed))


if __name__ == "__main__":
    raise SystemExit(main())
