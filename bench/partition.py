"""What it costs to deal out a pool: time on one core, and memory beyond the pool. Fashion-MNIST, 60,000 images.

- `classes`: Dirichlet 0.1 per class over 10,000 clients, every row once. Bar: 2 s.
- `clients`: Dirichlet 0.1 per client over 10,000 clients of equal sizes, every row once. Bar: 2 s.
- `million`: Dirichlet 0.1 per client over 1,000,000 clients of 20 rows each, with replacement. Bars: 10 s, and
  a peak of resident memory 200 MB above that with the pool alone.
- `flower`: Dirichlet 0.1 per class over 1,000 clients, empty ones allowed, by flwr-datasets and by this
  library, in pairs.
- `rotation`: 100,000 clients of 20 rows with a rotation each, and a round of FedAvg with cohort 100 on them.
  Bar: the peak above an interpreter that has run such a round on a tiny pool is at most twice the pool and its
  row numbers.

Every figure is from a process of its own that has loaded the pool and partitioned nothing before; what was made
is checked, and a wrong partition prints FAIL and no figure.

    python bench/partition.py --repeats 5 --json partition.json
    python bench/partition.py --tiny --repeats 1
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

FLOWER = "flwr-datasets is not installed: pip install 'fedjax-het[hf]' puts it beside this library"

BARS = {
    "classes": {"seconds": 2.0},
    "clients": {"seconds": 2.0},
    "million": {"seconds": 10.0, "megabytes": 200.0},
    "flower": {},
    "rotation": {"times_pool_and_rows": 2.0},
}


def status(name: str) -> float:
    """A figure of this process's memory in MB: VmRSS is now, VmHWM the peak since `forget`."""
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{name}:")[1].split()[0]) / 1024


def forget() -> None:
    """Let the peak begin at what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def clothes(tiny: bool) -> Any:
    """The pool."""
    import fedjax_het as fh

    if not tiny:
        return fh.datasets.fashion_mnist()
    rng = np.random.default_rng(0)
    return fh.pool(rng.integers(0, 255, (600, 28, 28)).astype(np.uint8), rng.permutation(600) % 10)


def once(federation: Any, rows: int) -> bool:
    """Whether every row is held exactly once."""
    held = [federation.rows(split) for split in ("train", "valid", "test")]
    index = np.concatenate([np.asarray(part.index)[: int(np.asarray(part.size).sum())] for part in held])
    return np.array_equal(np.sort(index), np.arange(rows))


def many(tiny: bool, name: str) -> dict[str, Any]:
    """10,000 clients."""
    from fedjax_het.heterogeneity import label

    pool = clothes(tiny)
    clients = 100 if tiny else 10_000
    began = time.perf_counter()
    if name == "classes":
        federation = label.dirichlet(pool, clients=clients, alpha=0.1)
    else:
        federation = label.dirichlet_per_client(pool, clients=clients, alpha=0.1)
    seconds = time.perf_counter() - began
    size = sum(np.asarray(federation.rows(split).size[0]) for split in ("train", "valid", "test"))
    fine = once(federation, pool.num_rows) and size.min() >= 1 and (name == "classes" or np.ptp(size) <= 1)
    return {"seconds": seconds, "right": bool(fine)}


def million(tiny: bool) -> dict[str, Any]:
    """A million clients."""
    from fedjax_het.heterogeneity import label

    pool = clothes(tiny)
    clients = 1000 if tiny else 1_000_000
    forget()
    before = status("VmRSS")
    began = time.perf_counter()
    federation = label.dirichlet_per_client(
        pool, clients=clients, alpha=0.1, sizes=20, replacement=True, test=0.2
    )
    seconds, peak, after = time.perf_counter() - began, status("VmHWM") - before, status("VmRSS") - before
    shares = federation.truth["proportions"]
    square = np.mean(np.square(np.asarray(shares[:100_000], np.float64) - 0.1).sum(1))
    close = tiny or abs(square - 0.9 / 1.1) < 0.01  # E|P - q|^2 = (1 - |q|^2) / (alpha + 1)
    sizes = np.all(np.asarray(federation.train.size) == 16) and np.all(np.asarray(federation.test.size) == 4)
    return {"seconds": seconds, "megabytes": peak, "kept": after, "right": bool(close and sizes)}


def flower(tiny: bool, pairs: int) -> dict[str, Any]:
    """flwr-datasets beside this library, interleaved."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        from datasets import Dataset
        from flwr_datasets.partitioner import DirichletPartitioner
    except ImportError:
        return {"absent": FLOWER}
    from fedjax_het.heterogeneity import label

    pool = clothes(tiny)
    clients = 20 if tiny else 1000
    theirs, ours, fine = [], [], True
    for _ in range(pairs):
        table = Dataset.from_dict({"row": np.arange(pool.num_rows), "label": pool.labels})
        began = time.perf_counter()
        # with its smallest size above 0 it draws ten times in vain and gives up
        partitioner = DirichletPartitioner(
            num_partitions=clients, partition_by="label", alpha=0.1, min_partition_size=0, seed=0
        )
        partitioner.dataset = table
        partitioner.load_partition(0)  # all indices are worked out with the first
        theirs.append(time.perf_counter() - began)
        began = time.perf_counter()
        federation = label.dirichlet(pool, clients=clients, alpha=0.1, min_size=0)
        ours.append(time.perf_counter() - began)
        fine = fine and once(federation, pool.num_rows)
    ratio = np.array(theirs) / np.array(ours)
    return {
        "seconds": float(np.median(ours)),
        "flower_seconds": float(np.median(theirs)),
        "ratio": float(np.median(ratio)),
        "right": fine,
    }


def rotation(tiny: bool) -> dict[str, Any]:
    """A rotation for each of 100,000 clients, never carried out but on the batch at hand."""
    import jax

    import fedjax_het as fh
    from fedjax_het.heterogeneity import feature, label

    def run(pool: Any, clients: int) -> Any:
        federation = label.dirichlet_per_client(pool, clients=clients, alpha=1.0, sizes=20, replacement=True)
        federation = feature.rotate(federation, spread=180.0)
        problem = fh.models.softmax(pool)
        algorithm = fh.algorithms.fedavg(problem, fh.local.sgd(0.1, batch_size=8))
        state, history = fh.simulate(
            algorithm,
            federation,
            key=jax.random.key(0),
            rounds=1,
            sampler=fh.sampling.uniform(min(100, clients)),
            every=1,
            sample=100,
        )
        jax.block_until_ready(state)
        return federation, history

    warm = fh.pool(np.zeros((200, 28, 28), np.uint8), np.arange(200) % 10)
    run(warm, 200)
    forget()
    before = status("VmRSS")
    pool = clothes(tiny)
    began = time.perf_counter()
    federation, history = run(pool, 200 if tiny else 100_000)
    seconds, peak = time.perf_counter() - began, status("VmHWM") - before
    stored = [
        pool.x,
        pool.y,
        *(leaf for split in ("train", "valid", "test") for leaf in rows(federation, split)),
    ]
    room = sum(leaf.nbytes for leaf in stored) / 2**20
    fine = federation.x.dtype == np.uint8 and bool(np.isfinite(np.asarray(history["info/loss"])).all())
    return {
        "seconds": seconds,
        "megabytes": peak,
        "pool_and_rows": room,
        "times_pool_and_rows": peak / room,
        "right": fine,
    }


def rows(federation: Any, split: str) -> tuple[Any, ...]:
    """The arrays of one split's row numbers."""
    held = federation.rows(split)
    return held.index, held.offset, held.size


def part(name: str, tiny: bool) -> dict[str, Any]:
    """One figure, in this process."""
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    if sys.platform == "linux":
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if name in ("classes", "clients"):
        return many(tiny, name)
    return {"million": million, "flower": lambda tiny: flower(tiny, 3), "rotation": rotation}[name](tiny)


def measure(name: str, tiny: bool, repeats: int) -> dict[str, Any]:
    """Medians over processes of their own."""
    command = [sys.executable, __file__, "--part", name] + ["--tiny"] * tiny
    told = []
    for _ in range(repeats):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{name} FAIL\n{done.stderr}")
        told.append(json.loads(done.stdout.splitlines()[-1]))
    if "absent" in told[0]:
        return told[0]
    if not all(entry["right"] for entry in told):
        raise SystemExit(f"{name} FAIL: what was made is not what was asked for")
    figures = {key: [entry[key] for entry in told] for key in told[0] if key != "right"}
    return {
        key: {"median": float(np.median(values)), "most": float(max(values)), "least": float(min(values))}
        for key, values in figures.items()
    }


def main() -> int:
    """Measure all parts and print them with their bars."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="processes for each part")
    parser.add_argument("--tiny", action="store_true", help="600 made-up images: whether it works, no figures")
    parser.add_argument("--only", choices=BARS, action="append", help="this part alone; may be repeated")
    parser.add_argument("--part", choices=BARS, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    if arguments.part:
        print(json.dumps(part(arguments.part, arguments.tiny)))
        return 0
    found = {name: measure(name, arguments.tiny, arguments.repeats) for name in arguments.only or BARS}
    missed = 0
    print(f"{'part':10s} {'figure':22s} {'median':>10s} {'least':>10s} {'most':>10s}  bar")
    for name, figures in found.items():
        if "absent" in figures:
            print(f"{name:10s} {figures['absent']}")
            continue
        for key, values in figures.items():
            bar = None if arguments.tiny else BARS[name].get(key)
            over = bar is not None and values["median"] > bar
            missed += over
            limit = "" if bar is None else f"{bar:g}{'  MISSED' if over else ''}"
            told = " ".join(f"{values[which]:10.3f}" for which in ("median", "least", "most"))
            print(f"{name:10s} {key:22s} {told}  {limit}")
    if arguments.json:
        about = {"machine": platform.processor() or platform.machine(), "python": platform.python_version()}
        arguments.json.write_text(json.dumps({"about": about, "found": found}, indent=2))
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
