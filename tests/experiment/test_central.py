"""Centralised training over time: one client holds what all hold, phase by phase."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het.experiment import Config, ConfigError, build, central, compare
from fedjax_het.experiment.central import pooled_over_time
from fedjax_het.experiment.clients import standing
from fedjax_het.heterogeneity import concept, feature, iid, label, temporal

SHIFTS = {
    "rows": functools.partial(
        temporal.recurring, changes=[functools.partial(label.shards, seed=1)], length=2, offset="random"
    ),
    "windows": functools.partial(temporal.rotating_classes, window=3, length=1, step=5),
    "labels": functools.partial(temporal.sudden, change=functools.partial(concept.swap, rate=1.0), round=2),
    "late": lambda held: temporal.label_delay(
        temporal.recurring(held, changes=[functools.partial(concept.swap, rate=1.0)], length=1), phases=1
    ),
    "both": lambda held: temporal.gradual(
        feature.noise(held, most=1.0), change=functools.partial(feature.gaussian, spread=1.0), begin=1, end=3
    ),
}


def _federation() -> fh.Federation:
    x = np.random.default_rng(0).normal(size=(90, 3)).astype(np.float32)
    pool = fh.pool(x, np.arange(90) % 10, num_classes=10)
    return iid(pool, clients=4, valid=0.2)


def _seen(federation: fh.Federation, split: str, phase: int) -> np.ndarray:
    """All rows as somebody sees them, (x, y) sorted, [R, d + 1]."""
    client = jnp.arange(federation.num_clients, dtype=jnp.int32)
    x, y, size = _taken(federation, jnp.int32(phase), client, split)
    held = np.arange(x.shape[1]) < np.asarray(size)[:, None]
    rows = np.concatenate([np.asarray(x)[held], np.asarray(y)[held][:, None]], axis=1)
    return rows[np.lexsort(rows.T)]


@functools.partial(jax.jit, static_argnames="split")
@functools.partial(jax.vmap, in_axes=(None, None, 0, None))
def _taken(federation, phase, client, split):
    data = federation.data(split, federation.locate(split, phase, client))
    batch = data.take(jnp.arange(data.capacity, dtype=jnp.int32))
    return batch.x, batch.y, data.size


@pytest.mark.parametrize("kind", SHIFTS)
def test_every_phase_holds_the_rows_of_that_phase(kind: str) -> None:
    federation = SHIFTS[kind](_federation())
    one = pooled_over_time(federation)
    assert (one.num_clients, one.spec.phases, one.truth) == (1, federation.spec.phases, {})
    for split in ("train", "valid", "test"):
        for phase in range(federation.spec.phases):
            wanted = _seen(federation, split, phase)
            np.testing.assert_allclose(_seen(one, split, phase), wanted, atol=1e-6)
    for round_ in range(8):
        assert int(one.schedule(jnp.int32(round_))) == int(federation.schedule(jnp.int32(round_)))


def test_without_phases_it_is_pooled() -> None:
    federation = _federation()
    one, wanted = pooled_over_time(federation), fh.pooled(federation)
    np.testing.assert_array_equal(one.train.index, wanted.train.index)
    assert one.schedule is None


CHANGES = [
    "clients={clients=4,alpha=5}", "model=softmax", "local.epochs=1", "sampling.size=2", "rounds=3", "every=1",
    "seeds=[0]", "compare=[fedavg,centralised]", "shifts.0=sudden", "shifts.0.round=2", "shifts.0.change=swap",
    "shifts.0.change.rate=1",
]  # fmt: skip


def test_a_comparison_over_phases_has_a_centralised_line() -> None:
    result = compare(Config.load(None, CHANGES))
    fedavg, centralised = (line.history["global/accuracy"][0] for line in result.lines)
    assert fedavg.shape == centralised.shape
    assert (centralised[-1] < centralised[-2] - 0.1).all(), "labels are swapped under it as well"
    assert "own test rows" in result.about_clients


def test_what_does_not_fit_into_memory_is_refused_when_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(central, "MOST", 1000)
    config = Config.load(None, CHANGES)
    with pytest.raises(ConfigError, match=r"centralised training must fit.*leave it out of compare"):
        build(config, config.compare)
    assert build(config, ["fedavg"]).entrants


def test_clients_that_change_over_time_are_judged_on_their_own_rows() -> None:
    federation = label.dirichlet(_federation(), alpha=1.0)
    assert standing(federation, "accuracy")[0]
    assert not standing(SHIFTS["windows"](federation), "accuracy")[0], "the proportions are those of phase 0"
    assert not standing(dataclasses.replace(federation, truth={}), "accuracy")[0]
