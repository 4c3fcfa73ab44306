"""What every sampler owes: legal draws that depend on key and round alone, and programs that last."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counting import compile_count
from drawing import SIZES, N, compiled, in_numpy, run, samplers, seeded

import fedjax_het as fh
from fedjax_het import sampling
from fedjax_het.engine.rounds import draw
from fedjax_het.engine.sampling.sampler import counted, some, without

NAMES = list(samplers())
ROUNDS = 8


@pytest.fixture(scope="module")
def made():
    return samplers()


@jax.jit
def _several(sampler, keys):
    return jax.vmap(lambda key: run(sampler, key, rounds=ROUNDS)[0])(keys)


@functools.cache
def drawn(name):
    """Draws of runs under the keys 3, 3 and 4, leaves [3, rounds, C]."""
    return in_numpy(_several(samplers()[name][0], seeded(3, 3, 4)))


@pytest.mark.parametrize("name", NAMES)
def test_draws_are_legal(name):
    draws = drawn(name)
    assert draws.id.dtype == np.int32 and draws.work.dtype == draws.multiplicity.dtype == np.float32
    for ids, times, work in zip(*(leaf.reshape(-1, leaf.shape[-1]) for leaf in draws)):
        there = ids < N
        assert (np.diff(ids) >= 0).all() and (np.diff(ids[there]) > 0).all()  # ascending, nobody twice
        assert ids.min() >= 0 and (ids[~there] == N).all()
        assert (times[there] >= 1).all() and (work[there] > 0).all() and (work <= 1).all()
    assert (draws.id < N).any()


@pytest.mark.parametrize("name", NAMES)
def test_draws_depend_on_key_and_round_alone(name):
    draws = drawn(name)
    for leaf in draws:
        np.testing.assert_array_equal(leaf[0], leaf[1])
    assert not np.array_equal(draws.id[0], draws.id[2])
    assert len({tuple(row) for row in draws.id[0].tolist()}) > 1


@pytest.mark.parametrize("name", NAMES)
def test_one_run_in_double_precision_draws_the_same_clients(name):
    single = drawn(name)
    with jax.enable_x64(True):
        double = in_numpy(compiled(samplers()[name][0], jax.random.key(3), rounds=ROUNDS)[0])
    assert double.work.dtype == double.multiplicity.dtype == np.float64
    np.testing.assert_array_equal(single.id[0], double.id)
    np.testing.assert_array_equal(single.multiplicity[0], double.multiplicity)
    np.testing.assert_allclose(single.work[0], double.work, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_another_number_compiles_nothing(made, name):
    first, other = drawn(name), made[name][1]
    keys = seeded(3, 3, 4)
    with compile_count() as count:
        second = in_numpy(_several(other, keys))
    assert count.value == 0, count.names
    same = all(np.array_equal(a, b) for a, b in zip(first, second))
    assert same == (made[name][0] is other)


def test_no_key_is_used_twice(made):
    with jax.debug_key_reuse(True):
        for sampler, _ in made.values():
            jax.eval_shape(lambda key, sampler=sampler: run(sampler, key, rounds=1), jax.random.key(0))


@pytest.mark.parametrize("name", ["given", "all at once"])
def test_every_method_meets_the_same_cohorts(made, name):
    rng = np.random.default_rng(0)
    pool = fh.pool(rng.normal(size=(sum(SIZES), 2)), rng.integers(0, 2, sum(SIZES)), num_classes=2)
    parts = np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])
    federation = fh.from_index_lists(pool, None, parts, test=0.0)
    problem, solver = fh.models.softmax(pool), fh.local.sgd(0.1, batch_size=2)
    round_fn = fh.make_round(made[name][0], fh.executors.vmapped())
    cohorts = []
    for method in (fh.algorithms.fedavg, fh.algorithms.scaffold):
        algorithm = method(problem, solver)
        state = fh.initial_state(algorithm, federation, key=jax.random.key(1), round_fn=round_fn)
        at = jax.jit(lambda: draw(round_fn, algorithm, state, federation)[0])  # noqa: B023
        cohorts.append(at())
    for field in ("id", "present", "multiplicity", "work"):
        np.testing.assert_array_equal(getattr(cohorts[0], field), getattr(cohorts[1], field))
    assert np.asarray(cohorts[0].id < N).any()


LARGE = 1_000_000


@pytest.mark.parametrize("name", NAMES)
def test_a_million_clients_are_never_sorted(name):
    by_client = {
        "bernoulli": sampling.bernoulli(1e-4, slots=200),
        "bernoulli by client": sampling.bernoulli(np.full(LARGE, 1e-4), slots=200),
        "given": sampling.given(100, np.full(LARGE, 1 / LARGE)),
        "given without replacement": sampling.given(100, np.full(LARGE, 1 / LARGE), replacement=False),
        "periodic in step": sampling.periodic(100, period=24, phase=0),
        "intermittent": sampling.intermittent(100, 0.5),
        "stragglers left out": sampling.stragglers(
            sampling.bernoulli(1e-4, slots=200), 0.5, epochs=5, policy="drop"
        ),
    }
    sampler = by_client.get(name) or samplers()[name][0]
    abstract = jax.eval_shape(lambda: sampler.init(LARGE))
    text = (
        jax.jit(type(sampler).draw)
        .lower(
            sampler,
            abstract,
            jax.eval_shape(lambda: jax.random.key(0)),
            jax.ShapeDtypeStruct((), jnp.int32),
            jax.ShapeDtypeStruct((LARGE,), jnp.int32),
            jax.ShapeDtypeStruct((LARGE,), jnp.float32),
        )
        .as_text()
    )
    blocks = [text[at : at + 2000] for at in _finds(text, "stablehlo.sort")]
    # the operands' types come right after the comparator of the sort
    assert all(f"tensor<{LARGE}x" not in block[: block.index("})") + 300] for block in blocks)
    if name.startswith(("uniform", "cyclic")):
        assert f"tensor<{LARGE}x" not in text  # nothing is done to all clients


def _finds(text, word):
    at = text.find(word)
    while at >= 0:
        yield at
        at = text.find(word, at + 1)


def test_a_draw_with_repeats_is_counted():
    draw = counted(jnp.asarray([4, 1, 4, 2, 4], jnp.int32), 6)
    np.testing.assert_array_equal(draw.id, [1, 2, 4, 6, 6])
    np.testing.assert_array_equal(draw.multiplicity, [1, 1, 3, 0, 0])
    few = counted(jnp.asarray([1, 0, 1, 1, 0], jnp.int32), 2)  # more draws than clients
    np.testing.assert_array_equal(few.id, [0, 1])
    np.testing.assert_array_equal(few.multiplicity, [2, 3])
    nobody = counted(jnp.asarray([3, 3], jnp.int32), 3)
    np.testing.assert_array_equal(nobody.id, [3, 3])
    np.testing.assert_array_equal(nobody.multiplicity, [0, 0])


def test_clients_sent_home_leave_the_others_as_they_were():
    drawn = some(jnp.asarray([5, 9, 0, 3], jnp.int32), 9)._replace(work=jnp.asarray([0.1, 0.2, 0.3, 0.4]))
    np.testing.assert_array_equal(drawn.id, [0, 3, 5, 9])
    np.testing.assert_array_equal(drawn.multiplicity, [1, 1, 1, 0])
    left = without(drawn, jnp.asarray([False, True, False, False]), 9)
    np.testing.assert_array_equal(left.id, [0, 5, 9, 9])
    np.testing.assert_allclose(left.work[:2], [0.1, 0.3])


def test_repeats_sum_to_the_draws():
    for name in ("uniform with replacement", "proportional", "given"):
        draws = drawn(name)
        np.testing.assert_array_equal(draws.multiplicity.sum(axis=-1), 4)
        assert draws.multiplicity.max() > 1, name
    # one program whatever the draw, so slots that nobody needs are absent
    small = in_numpy(compiled(sampling.uniform(7, replacement=True), jax.random.key(0), sizes=(3, 1, 2))[0])
    assert small.id.shape[1] == 3 and (small.multiplicity.sum(axis=1) == 7).all()


def test_an_empty_federation_draws_nobody_by_size():
    for sampler in (
        sampling.proportional(3),
        sampling.proportional(3, replacement=False),
        sampling.by_size(3),
        sampling.by_size(3, exponent=-1.0),
        sampling.power_of_choice(3, candidates=4),
    ):
        draws = in_numpy(compiled(sampler, jax.random.key(0), sizes=(0, 0, 0, 0), rounds=2)[0])
        assert (draws.id == 4).all() and (draws.multiplicity == 0).all()
