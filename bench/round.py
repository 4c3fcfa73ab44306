"""How fast is a round: the engine, a hand-written JAX program and a plain PyTorch loop, side by side.

One run on one core. In every pair each system runs all rounds of the workload once, in rotating order; ratios
are taken within a pair, so that a slow minute of a shared machine hits both sides. Compilation and the first
run are left out. Every system must end at the reference loss to six digits, or there is no ratio at all.

The floor of a round is its floating point operations over the best rate of a 1024 x 1024 x 1024 float32
matrix product seen in this run, by JAX or by PyTorch.

    python bench/round.py --pairs 20 --json round.json
    python bench/round.py --tiny --pairs 2
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import platform
import sys
import time
from typing import Any

import baselines
import jax
import jax.numpy as jnp
import numpy as np
import torch
import workloads
from measuring import matrix_rate, one_core, quartiles

import fedjax_het as fh
from fedjax_het.construct import assemble

SYSTEMS = ("engine", "hand", "hand-autodiff", "torch", "torch-bare")
"""hand-autodiff: `hand` without its stated weight gradient; torch-bare: `torch` with the SGD step written out
instead of torch.optim.SGD, which is faster."""

RATIOS = (
    ("engine", "hand"),
    ("engine", "hand-autodiff"),
    ("torch", "engine"),
    ("torch-bare", "engine"),
    ("hand", "floor"),
    ("engine", "floor"),
)


def executor(text: str) -> Any:
    """auto, looped, vmapped or chunked:SIZE."""
    name, _, size = text.partition(":")
    if name == "chunked" and size:
        return fh.executors.chunked(int(size))
    plain = {"auto": fh.executors.auto, "looped": fh.executors.looped, "vmapped": fh.executors.vmapped}
    if name not in plain or size:
        raise argparse.ArgumentTypeError(f"must be auto, looped, vmapped or chunked:SIZE, got {text!r}")
    return plain[name]()


def engine(workload: workloads.Workload, how: Any) -> baselines.Run:
    """The library's own round, all rounds as one block."""
    x = workload.x.reshape(-1, 28, 28) if "conv_0" in workload.params else workload.x
    pool = fh.pool(x, workload.y, num_classes=10, name=workload.name)
    empty = [np.zeros(0, np.int32)] * len(workload.rows)
    federation = assemble(pool, workload.rows, empty, empty)
    width = {name: leaves["bias"].size for name, leaves in workload.params.items()}
    problem = fh.models.softmax(pool)
    if "conv_0" in width:
        channels = (width["conv_0"], width["conv_1"])
        problem = fh.models.cnn(pool, channels=channels, hidden=(width["dense_0"],))
    elif "dense_0" in width:
        problem = fh.models.mlp(pool, hidden=(width["dense_0"],))
    solver = fh.local.sgd(
        learning_rate=workload.learning_rate, batch_size=workload.batch, epochs=1, shuffle=False
    )
    algorithm = fh.algorithms.fedavg(problem, solver)
    round_fn = fh.make_round(fh.sampling.scripted(workload.ids), how)
    block = fh.make_block(round_fn, len(workload.ids))
    state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    start = jax.tree.map(jnp.asarray, workload.params)
    state = dataclasses.replace(state, server=dataclasses.replace(state.server, params=start))
    run = jax.jit(lambda block, algorithm, state, federation: block(algorithm, state, federation))
    return lambda: jax.block_until_ready(run(block, algorithm, state, federation))[0].server.params


def build(name: str, workload: workloads.Workload, how: Any) -> baselines.Run:
    """The system of this name, ready to run."""
    if name == "engine":
        return engine(workload, how)
    if name.startswith("hand"):
        return baselines.handwritten(workload, stated=name == "hand")
    return baselines.pytorch(workload, optimizer=name == "torch")


def check(workload: workloads.Workload, reference: float, runs: dict[str, baselines.Run]) -> dict[str, Any]:
    """The first run of each system: {system: {"loss", "agrees", "first_s"}}; compilation is part of it."""
    first = {}
    for name, run in runs.items():
        begin = time.perf_counter()
        params = run()
        seconds = time.perf_counter() - begin
        loss = workloads.evaluate(workload, params)
        agrees = math.isclose(loss, reference, rel_tol=1e-6)
        first[name] = {"loss": loss, "agrees": agrees, "first_s": seconds}
    return first


def measure(
    workload: workloads.Workload, runs: dict[str, baselines.Run], pairs: int, rates: list[float]
) -> dict[str, Any]:
    """Interleaved pairs: CPU and wall milliseconds a round of every system; adds to `rates`."""
    names, rounds = list(runs), len(workload.ids)
    cpu = {name: [] for name in names}
    wall = {name: [] for name in names}
    for pair in range(pairs):
        turn = pair % len(names)
        for name in names[turn:] + names[:turn]:
            begin, began = time.process_time(), time.perf_counter()
            runs[name]()
            cpu[name].append((time.process_time() - begin) / rounds * 1e3)
            wall[name].append((time.perf_counter() - began) / rounds * 1e3)
        rates.append(matrix_rate(0.1))
        print(f"{workload.name}: pair {pair + 1} of {pairs}", file=sys.stderr, flush=True)
    return {"cpu_ms": cpu, "wall_ms": wall}


def summary(workload: workloads.Workload, times: dict[str, Any], rate: float) -> dict[str, Any]:
    """Medians and quartiles of the times, and of the ratios taken pair by pair."""
    cpu = {name: np.asarray(values) for name, values in times["cpu_ms"].items()}
    floor = workload.work / rate / 1e6
    cpu["floor"] = np.full(len(next(iter(cpu.values()))), floor)
    ratios = {f"{a}/{b}": quartiles(cpu[a] / cpu[b]) for a, b in RATIOS if a in cpu and b in cpu}
    spread = {kind: {name: quartiles(v) for name, v in by.items()} for kind, by in times.items()}
    return {"floor_ms": floor, **spread, "ratios": ratios}


def show(name: str, result: dict[str, Any]) -> None:
    """The table of one workload."""
    print(f"\n{name}: floor {result['floor_ms']:.2f} ms a round; all losses agree")
    print(f"{'':24}{'median':>10}{'q1':>10}{'q3':>10}")
    for title, kind in (("CPU ms", "cpu_ms"), ("wall ms", "wall_ms"), ("", "ratios")):
        for row, values in result[kind].items():
            cells = "".join(f"{values[k]:10.3f}" for k in ("median", "q1", "q3"))
            print(f"{f'{row} {title}':24}{cells}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workload", action="append", choices=workloads.WORKLOADS, help="default: all")
    parser.add_argument("--pairs", type=int, default=20, help="interleaved pairs (20)")
    parser.add_argument(
        "--systems", nargs="+", choices=SYSTEMS, default=["engine", "hand", "torch", "torch-bare"]
    )
    parser.add_argument(
        "--executor", default="auto", help="of the engine: auto, looped, vmapped or chunked:SIZE"
    )
    parser.add_argument("--tiny", action="store_true", help="small sizes, for a smoke test")
    parser.add_argument("--reference", action="store_true", help="recompute the reference losses in NumPy")
    parser.add_argument("--json", metavar="FILE", help="where the results go; default: standard output")
    return parser.parse_args()


def main() -> int:
    """Run it; 1 if a loss disagrees."""
    options = arguments()
    core = one_core()
    how = executor(options.executor)
    rates = [matrix_rate(1.0)]
    report: dict[str, Any] = {
        "machine": {"core": core, "processor": platform.processor() or platform.machine()},
        "versions": {"python": platform.python_version(), "jax": jax.__version__, "torch": torch.__version__},
        "pairs": options.pairs,
        "executor": options.executor,
        "tiny": options.tiny,
        "workloads": {},
    }
    failed, measured = False, {}
    for name in options.workload or workloads.WORKLOADS:
        workload = workloads.load(name, tiny=options.tiny)
        reference = workload.reference
        if reference is None or options.reference:
            reference = workloads.reference_loss(workload)
        runs = {system: build(system, workload, how) for system in options.systems}
        first = check(workload, reference, runs)
        entry: dict[str, Any] = {"reference": reference, "recorded": workload.reference, "first": first}
        report["workloads"][name] = entry
        wrong = [system for system, outcome in first.items() if not outcome["agrees"]]
        if workload.reference is not None and not math.isclose(reference, workload.reference, rel_tol=1e-7):
            wrong.append("recorded reference")
        if wrong:
            failed = True
            losses = ", ".join(f"{system} {outcome['loss']:.9g}" for system, outcome in first.items())
            print(f"\nFAIL {name}: {', '.join(wrong)} differ from {reference:.9g}: {losses}")
            continue
        measured[name] = workload, measure(workload, runs, options.pairs, rates)
    report["matrix_gflops"] = max(rates)
    for name, (workload, times) in measured.items():
        entry = report["workloads"][name]
        entry |= summary(workload, times, max(rates))
        show(name, entry)
    print(f"\nmatrix product: {max(rates):.1f} GFLOP/s")
    text = json.dumps(report, indent=2)
    if options.json:
        with open(options.json, "w") as stream:
            stream.write(text + "\n")
    else:
        print(text)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
