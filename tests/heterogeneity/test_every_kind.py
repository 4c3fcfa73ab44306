"""FedAvg and IFCA run on every kind of federation, unchanged, and one program serves all rounds and phases."""

from functools import partial

import jax
import numpy as np
import pytest
from counting import compile_count

import fedjax_het as fh
from fedjax_het.heterogeneity import compose, concept, feature, iid, label, quantity, temporal

ROUNDS = 6

PARTITIONERS = {
    "iid": iid,
    "dirichlet": partial(label.dirichlet, alpha=0.3),
    "dirichlet per client": partial(label.dirichlet_per_client, alpha=0.3),
    "shards": label.shards,
    "classes": label.classes,
    "power law": partial(quantity.power_law, exponent=1.0),
    "log-normal": quantity.log_normal,
    "dirichlet sizes": partial(quantity.dirichlet, alpha=1.0),
    "by feature": feature.by_feature,
    "by cluster": partial(feature.by_cluster, groups=3),
}
SHIFTS = {
    "rotate": partial(feature.rotate, clusters=4),
    "affine": partial(feature.affine, spread=0.5, offset=0.1),
    "blur": partial(feature.blur, most=1.0),
    "noise": partial(feature.noise, most=0.3),
    "channels": partial(feature.channels, spread=30.0),
    "gaussian": partial(feature.gaussian, spread=0.2),
    "domains": partial(feature.domains, domains=["identity", "invert", "mirror"], alpha=0.5),
    "permute": partial(concept.permute, clusters=2),
    "swap": partial(concept.swap, rate=0.5),
    "oppose": partial(concept.oppose, rate=0.7),
    "linear": partial(concept.linear, clusters=2, difference=1.0),
    "sudden": partial(temporal.sudden, change=partial(concept.swap, rate=1.0), round=2, spread=3),
    "gradual": partial(
        temporal.gradual,
        change=partial(label.dirichlet_per_client, alpha=0.3, seed=9),
        begin=1,
        end=5,
        phases=3,
    ),
    "recurring": partial(temporal.recurring, changes=[partial(feature.gaussian, spread=0.3)], length=2),
    "rotating classes": partial(temporal.rotating_classes, window=2, length=1),
    "growing": partial(temporal.growing, length=2, phases=3),
    "label delay": compose(
        partial(temporal.growing, length=1, phases=4), partial(temporal.label_delay, phases=1)
    ),
}


def source():
    """Images of 6 x 6 in two colours whose brightest quarter says the class."""
    rng = np.random.default_rng(0)
    y = rng.permutation(240) % 4
    x = rng.random((240, 6, 6, 2)) * 0.5
    for row, kind in enumerate(y):
        x[row, 3 * (kind // 2) : 3 * (kind // 2) + 3, 3 * (kind % 2) : 3 * (kind % 2) + 3] += 0.5
    return fh.pool(np.round(x * 255).astype(np.uint8), y)


def made(name):
    if name in PARTITIONERS:
        return PARTITIONERS[name](source(), clients=8)
    return SHIFTS[name](iid(source(), clients=8))


def loss(log):
    """Mean over the clients that took part."""
    return float(np.mean(np.asarray(log["info"]["loss"])[np.asarray(log["present"])]))


@pytest.mark.parametrize("method", ["fedavg", "ifca"])
@pytest.mark.parametrize("name", [*PARTITIONERS, *SHIFTS])
def test_one_program_runs_it(name, method):
    federation = made(name)
    problem = fh.models.softmax(federation.pool)
    algorithm = fh.algorithms.make(method, problem, fh.local.sgd(0.5, batch_size=8))
    round_fn = fh.make_round(fh.sampling.uniform(5), fh.executors.looped())
    start = partial(fh.initial_state, key=jax.random.key(0), round_fn=round_fn)
    state = jax.jit(start)(algorithm, federation)
    step = jax.jit(round_fn)
    state, log = step(algorithm, state, federation)
    losses = [loss(log)]
    with compile_count() as compiled:
        for _ in range(ROUNDS - 1):
            state, log = step(algorithm, state, federation)
            losses.append(loss(log))
    assert compiled.value == 0
    assert int(state.round) == ROUNDS and np.isfinite(losses).all()
    assert bool(log["sound"])
    assert federation.x.dtype == np.uint8
