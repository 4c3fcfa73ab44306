"""Clients of a few concepts that name the classes in different orders, on easy data."""

import jax
import jax.numpy as jnp
import numpy as np

import fedjax_het as fh
from fedjax_het.assembly import assemble
from fedjax_het.engine.blocks import up_to

MOST = 64
"""Rounds of a run at most: every number of rounds is the same program."""

_rounds = jax.jit(up_to, static_argnames="most")
initial = jax.jit(
    lambda round_fn, algorithm, federation, key: fh.initial_state(
        algorithm, federation, key=key, round_fn=round_fn
    )
)


def concepts(shift, *, rows=40, valid=10, seed=0, empty=()):
    """Three blobs; client k calls class y (y + shift[k]) mod 3. Clients in `empty` have no training rows."""
    rng = np.random.default_rng(seed)
    count = len(shift)
    owner = np.repeat(np.arange(count), rows + valid)
    y = rng.integers(0, 3, len(owner))
    x = rng.normal(size=(len(owner), 4))
    x[:, 0] += 3 * np.cos(2 * np.pi * y / 3)
    x[:, 1] += 3 * np.sin(2 * np.pi * y / 3)
    pool = fh.pool(x, (y + np.asarray(shift)[owner]) % 3, num_classes=3, name="concepts")
    held = [np.flatnonzero(owner == k) for k in range(count)]
    train = [own[: 0 if k in empty else rows] for k, own in enumerate(held)]
    return assemble(pool, train, [own[rows:] for own in held])


def pool_of(federation):
    return fh.Pool(federation.x, federation.y, federation.spec.pool)


def problem_of(federation, l2=0.0):
    return fh.models.softmax(pool_of(federation), l2=l2)


def everyone(executor=None, **options):
    executor = fh.executors.vmapped() if executor is None else executor
    return fh.make_round(options.pop("sampler", fh.sampling.everyone()), executor, **options)


def run(algorithm, federation, rounds, *, round_fn=None, seed=0, state=None):
    """(state, logs) of a run in one block."""
    round_fn = everyone() if round_fn is None else round_fn
    if state is None:
        state = initial(round_fn, algorithm, federation, jax.random.key(seed))
    assert rounds <= MOST
    state, logs = _rounds(round_fn, algorithm, state, federation, np.int32(rounds), most=MOST)
    return state, jax.tree.map(lambda leaf: leaf[:rounds], logs)


def same_partition(a, b):
    """Whether two labellings are the same clusters under other numbers."""
    pairs = set(zip(np.asarray(a).tolist(), np.asarray(b).tolist()))
    return len(pairs) == len({x for x, _ in pairs}) == len({y for _, y in pairs})


def stacked(start, count):
    """`count` copies of NumPy params as softmax params of the default float type."""
    return {
        "head": {
            name: jnp.asarray(np.stack([value] * count), jnp.result_type(float))
            for name, value in start.items()
        }
    }
