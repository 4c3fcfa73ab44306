"""What gradient dissimilarity costs in a round: at most one full pass of gradients over the clients measured.

The workload is W2 of `workloads.py`: 1,000 clients of 60 rows, MLP 784-200-10, cohorts of 100. Three systems:

- `without`: the engine's round of FedAvg, no measure.
- `with`: the same round, rows and cohorts, with `gradient_dissimilarity`.
- `pass`: the gradient of every client of the cohort over all of its rows, weighted and summed, by the same
  executor; nothing else.

What the measure costs is (with - without) / pass, within a pair; it may be 1, since that pass is what it has to
do. The measure's own work, one client's gradient as a reference, the differences from it and their squares, has
to fit in as well: the bar is 1.1. Before anything is timed, both rounds must agree to six digits, and |mean
gradient|^2 of the measure with that of the pass.

One run on one core, CPU time, interleaved pairs; compilation and the first run are left out.

    python bench/measures.py --pairs 20 --json measures.json
    python bench/measures.py --tiny --pairs 2
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
from measuring import one_core, quartiles

import fedjax_het as fh
from fedjax_het import tree
from fedjax_het.construct import assemble
from fedjax_het.problem import full_gradient, objective

BAR = 1.1
"""(with - without) / pass, at most."""

Step = Callable[[], Any]
"""Does the work once and waits; returns what came out."""


@dataclasses.dataclass(frozen=True)
class Passed:
    """The mean gradient of the clients asked and nothing else, as a measure: what a full pass costs."""

    def init(self, algorithm: Any, server: Any) -> Any:
        """Nothing to remember."""
        return ()

    def client(self, carry: Any, algorithm: Any, server: Any, client: Any, report: Any) -> Any:
        """Total: p g."""
        f = objective(algorithm.problem, train=False)
        grads, _ = full_gradient(f, algorithm.consensus(server), client.data, client.key)
        return tree.scale(client.weight, grads), ()

    def finish(self, carry: Any, algorithm: Any, server: Any, total: Any, each: Any, cohort: Any) -> Any:
        """|sum of p g|^2."""
        return {"squared": tree.sum_of_squares(total)}, carry


jax.tree_util.register_dataclass(Passed)


def setting(workload: workloads.Workload) -> tuple[Any, Any]:
    """(algorithm, federation)."""
    pool = fh.pool(workload.x, workload.y, num_classes=10, name=workload.name)
    empty = [np.zeros(0, np.int32)] * len(workload.rows)
    federation = assemble(pool, workload.rows, empty, empty)
    problem = fh.models.mlp(pool, hidden=(workload.params["dense_0"]["bias"].size,))
    solver = fh.local.sgd(workload.learning_rate, batch_size=workload.batch, epochs=1, shuffle=False)
    return fh.algorithms.fedavg(problem, solver), federation


def rounds(workload: workloads.Workload, measures: dict[str, Any]) -> Step:
    """One round after the other; returns (server's params, the measures' values)."""
    algorithm, federation = setting(workload)
    round_fn = fh.make_round(fh.sampling.scripted(workload.ids), fh.executors.auto(), measures)
    run = jax.jit(round_fn, donate_argnums=1)
    held = [fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)]

    def once() -> Any:
        held[0], log = run(algorithm, held[0], federation)
        jax.block_until_ready(held[0])
        return jax.tree.map(np.asarray, (held[0].server.params, log["measures"]))

    return once


def passes(workload: workloads.Workload) -> Step:
    """A full pass over one cohort after the other at the initial model; returns |mean gradient|^2."""
    algorithm, federation = setting(workload)
    round_fn = fh.make_round(fh.sampling.scripted(workload.ids), fh.executors.auto())
    state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
    ask = jax.jit(lambda a, s, f, ids: fh.survey(Passed(), a, s, f, ids))
    cohorts, turn = [jnp.asarray(np.sort(ids), jnp.int32) for ids in workload.ids], [0]

    def once() -> Any:
        found = ask(algorithm, state, federation, cohorts[turn[0] % len(cohorts)])
        turn[0] += 1
        return float(found["squared"])

    return once


def agree(steps: dict[str, Step]) -> list[str]:
    """What is not as it should be, in words; every step runs for its first time."""
    plain, _ = steps["without"]()
    measured, values = steps["with"]()
    alone, wrong = steps["pass"](), []
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(measured)):
        apart = float(np.abs(a - b).max() / np.abs(a).max())
        if not apart <= 1e-6:
            wrong.append(f"models after a round with and without the measure are {apart:.1e} apart")
    seen = float(values["spread"]["mean_gradient_squared"])
    if not abs(seen / alone - 1) <= 1e-4:
        wrong.append(f"|mean gradient|^2 is {seen:.7g} by the measure and {alone:.7g} by the pass")
    return wrong


def measure(steps: dict[str, Step], pairs: int) -> dict[str, list[float]]:
    """CPU milliseconds of every step in every pair."""
    cpu: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for pair in range(pairs):
        turn = pair % len(names)
        for name in names[turn:] + names[:turn]:
            begin = time.process_time()
            steps[name]()
            cpu[name].append((time.process_time() - begin) * 1e3)
    return cpu


def missed(cost: float) -> list[str]:
    """Which bar is missed, in words."""
    return [] if cost <= BAR else [f"(with - without)/pass {cost:.3f} is above {BAR}"]


def show(report: dict[str, Any]) -> None:
    """The table."""
    print(f"W2, {report['clients']} clients, cohorts of {report['cohort']}, {report['parameters']} parameters")
    print(f"{'':28}{'median':>10}{'q1':>10}{'q3':>10}")
    for title, kind in (("CPU ms", "cpu_ms"), ("", "ratios")):
        for row, values in report[kind].items():
            cells = "".join(f"{values[k]:10.3f}" for k in ("median", "q1", "q3"))
            print(f"{f'{row} {title}':28}{cells}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=20, help="interleaved pairs (20)")
    parser.add_argument("--tiny", action="store_true", help="small sizes and no bar, for a smoke test")
    parser.add_argument("--json", metavar="FILE", help="where the results go; default: standard output")
    return parser.parse_args()


def main() -> int:
    """Run it; 1 if results disagree or the bar is missed."""
    options = arguments()
    core = one_core()
    workload = workloads.load("W2", tiny=options.tiny)
    ids = np.concatenate([workload.ids] * (options.pairs // len(workload.ids) + 2))  # enough for all pairs
    workload = dataclasses.replace(workload, ids=ids)
    steps: dict[str, Step] = {
        "without": rounds(workload, {}),
        "with": rounds(workload, {"spread": fh.analysis.gradient_dissimilarity()}),
        "pass": passes(workload),
    }
    report: dict[str, Any] = {
        "machine": {"core": core, "processor": platform.processor() or platform.machine()},
        "versions": {"python": platform.python_version(), "jax": jax.__version__},
        "pairs": options.pairs,
        "tiny": options.tiny,
        "clients": len(workload.rows),
        "cohort": len(workload.ids[0]),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(workload.params)),
        "bar": BAR,
    }
    failed = agree(steps)
    if not failed:
        times = measure(steps, options.pairs)
        cpu = {name: np.asarray(values) for name, values in times.items()}
        report |= {"all_cpu_ms": times, "cpu_ms": {name: quartiles(values) for name, values in cpu.items()}}
        report["ratios"] = {
            "(with - without)/pass": quartiles((cpu["with"] - cpu["without"]) / cpu["pass"]),
            "with/without": quartiles(cpu["with"] / cpu["without"]),
        }
        show(report)
        failed += missed(report["ratios"]["(with - without)/pass"]["median"]) if not options.tiny else []
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
