"""What personal heads cost a round, and how near to the matrix rate the similarity of clients' updates comes.

The workload is W2 of `workloads.py`: 1,000 clients of 60 rows, MLP 784-200-10, cohorts of 100. Two questions:

- Personal heads. `fedper` keeps a head (2,010 of 159,010 numbers) for each of the 1,000 clients; `fedavg` is
  the engine's round on the same rows, cohorts and batches. A round may cost 1.3 times as much. Before anything
  is timed, the bodies of both after one round must agree to six digits: until then all heads are alike, so
  that clients do the same work in both.
- Similarity. `cosines` is the matrix of cosines of 1,000 updates of that model, as clustered federated learning
  asks for it; `cut` is the best cut in two of that matrix. The first must reach 0.8 of the matrix rate, which
  is the best of a 1024 x 1024 x 1024 product in this run; N (N + 1) d operations would do, 2 N^2 d are counted,
  since a product is what is computed. Before, it must agree with NumPy in float64 to 1e-5.

One run on one core, CPU time, interleaved pairs, ratios within a pair; compilation and the first run are left
out.

    python bench/personal.py --pairs 20 --json personal.json
    python bench/personal.py --tiny --pairs 2
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import workloads
from measuring import matrix_rate, one_core, quartiles

import fedjax_het as fh
from fedjax_het.construct import assemble
from fedjax_het.similarity import cosines, cut

ROUND = 1.3
"""A round of `fedper` over one of `fedavg`, at most."""

RATE = 0.8
"""The rate of `cosines` over that of a matrix product, at least."""

Step = Callable[[], Any]
"""Does the work once and waits; returns what came out."""


def rounds(workload: workloads.Workload, name: str) -> Step:
    """One round after the other of the method; returns the server's body."""
    pool = fh.pool(workload.x, workload.y, num_classes=10, name=workload.name)
    empty = [np.zeros(0, np.int32)] * len(workload.rows)
    federation = assemble(pool, workload.rows, empty, empty)
    problem = fh.models.mlp(pool, hidden=(workload.params["dense_0"]["bias"].size,))
    solver = fh.local.sgd(workload.learning_rate, batch_size=workload.batch, epochs=1, shuffle=False)
    algorithm = fh.algorithms.make(name, problem, solver)
    round_fn = fh.make_round(fh.sampling.scripted(workload.ids), fh.executors.auto())
    run = jax.jit(round_fn, donate_argnums=1)
    state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    held = [state]

    def once() -> Any:
        held[0], _ = run(algorithm, held[0], federation)
        jax.block_until_ready(held[0])
        return held[0].server.params["dense_0"]

    return once


def updates(workload: workloads.Workload) -> jax.Array:
    """Updates of all clients, float32 [N, d]: a common direction and what is each client's own."""
    size = sum(leaf.size for leaf in jax.tree.leaves(workload.params))
    common, own = (
        jax.random.normal(jax.random.key(i), (n, size)) for i, n in ((1, 1), (2, len(workload.rows)))
    )
    return common + own


def similarities(found: jax.Array) -> dict[str, Step]:
    """The matrix of cosines, and its best cut."""
    product, divide = jax.jit(cosines), jax.jit(cut)
    matrix, members = product(found), jnp.ones(len(found), bool)
    return {
        "cosines": lambda: product(found).block_until_ready(),
        "cut": lambda: jax.block_until_ready(divide(matrix, members)),
    }


def agree(workload: workloads.Workload, steps: dict[str, Step], found: jax.Array) -> list[str]:
    """What is not as it should be, in words; every step runs for its first time."""
    bodies = [jax.tree.map(np.asarray, steps[name]()) for name in ("fedavg", "fedper")]
    wrong = []
    for leaf, (one, other) in zip(bodies[0], zip(*(body.values() for body in bodies))):
        apart = float(np.abs(one - other).max() / np.abs(one).max())
        if not apart <= 1e-6:
            wrong.append(f"{leaf} of the bodies after a round is {apart:.1e} apart")
    rows = np.linspace(0, len(found) - 1, min(len(found), 50)).astype(int)
    exact = np.asarray(found, np.float64)[rows]
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    apart = float(np.abs(np.asarray(steps["cosines"]())[np.ix_(rows, rows)] - exact @ exact.T).max())
    if not apart <= 1e-5:
        wrong.append(f"cosines are {apart:.1e} apart from NumPy's")
    part, across = steps["cut"]()
    if not (0 < int(part.sum()) <= len(found) // 2 and abs(float(across)) <= 1):
        wrong.append("the cut is none")
    return wrong


def measure(steps: dict[str, Step], pairs: int) -> tuple[dict[str, list[float]], float]:
    """(CPU milliseconds of every step in every pair, the best rate of a matrix product in GFLOP/s)."""
    cpu: dict[str, list[float]] = {name: [] for name in steps}
    names, rate = list(steps), matrix_rate(0.5)
    for pair in range(pairs):
        turn = pair % len(names)
        for name in names[turn:] + names[:turn]:
            begin = time.process_time()
            steps[name]()
            cpu[name].append((time.process_time() - begin) * 1e3)
        rate = max(rate, matrix_rate(0.1))
    return cpu, rate


def missed(slow: float, near: float) -> list[str]:
    """Which bars are missed, in words, by a round's ratio and the matrix product's."""
    return [
        words
        for words, holds in (
            (f"fedper/fedavg {slow:.3f} is above {ROUND}", slow <= ROUND),
            (f"cosines reach {near:.3f} of the matrix rate, below {RATE}", near >= RATE),
        )
        if not holds
    ]


def show(report: dict[str, Any]) -> None:
    """The table."""
    print(f"W2, {report['clients']} clients, {report['parameters']} parameters")
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
    """Run it; 1 if results disagree or a bar is missed."""
    options = arguments()
    core = one_core()
    workload = workloads.load("W2", tiny=options.tiny)
    workload = dataclasses.replace(workload, ids=np.concatenate([workload.ids] * 30))  # enough for all pairs
    found = updates(workload)
    steps = {name: rounds(workload, name) for name in ("fedavg", "fedper")} | similarities(found)
    clients, size = found.shape
    report: dict[str, Any] = {
        "machine": {"core": core, "processor": platform.processor() or platform.machine()},
        "versions": {"python": platform.python_version(), "jax": jax.__version__},
        "pairs": options.pairs,
        "tiny": options.tiny,
        "clients": clients,
        "parameters": size,
        "bars": {"fedper/fedavg": ROUND, "cosines/matrix": RATE},
    }
    failed = agree(workload, steps, found)
    if not failed:
        cpu, rate = measure(steps, options.pairs)
        report |= {"all_cpu_ms": cpu, "matrix_gflops": rate}
        report["cpu_ms"] = {name: quartiles(values) for name, values in cpu.items()}
        times = {name: np.asarray(values) for name, values in cpu.items()}
        report["ratios"] = {
            "fedper/fedavg": quartiles(times["fedper"] / times["fedavg"]),
            "cosines/matrix": quartiles(2 * clients**2 * size / times["cosines"] / 1e6 / rate),
            "cut/cosines": quartiles(times["cut"] / times["cosines"]),
        }
        show(report)
        slow, near = (report["ratios"][name]["median"] for name in ("fedper/fedavg", "cosines/matrix"))
        failed += missed(slow, near) if not options.tiny else []
    for words in failed:
        print(f"FAIL {words}")
    report["failed"] = failed
    text = json.dumps(report, indent=2)
    if options.json:
        with open(options.json, "w") as stream:
            stream.write(text + "\n")
    else:
        print(text)
    return int(bool(failed))


if __name__ == "__main__":
    raise SystemExit(main())
