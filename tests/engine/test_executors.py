"""Map and sum: one answer, whatever the order, the grouping and the devices."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

import fedjax_het as fh
from fedjax_het import executors
from fedjax_het.engine.executors import GROUP, SMALL

pytestmark = pytest.mark.smoke

mesh_of_four = jax.make_mesh((4,), ("clients",), axis_types=(AxisType.Auto,))
mesh_of_two = jax.make_mesh((2,), ("clients",), devices=jax.devices()[:2], axis_types=(AxisType.Auto,))

ALL = {
    "vmapped": executors.vmapped(),
    "looped": executors.looped(),
    "chunked 1": executors.chunked(1),
    "chunked 3": executors.chunked(3),
    "chunked 64": executors.chunked(64),
    "chunked looped": executors.chunked(3, executors.looped()),
    "chunked chunked": executors.chunked(5, executors.chunked(2)),
    "sharded": executors.sharded(mesh_of_four, executors.vmapped()),
    "sharded looped": executors.sharded(mesh_of_four, executors.looped()),
    "sharded chunked": executors.sharded(mesh_of_two, executors.chunked(2)),
    "sharded auto": executors.sharded(),
    "auto": executors.auto(),
}


def work(shared, row):
    """Sums in float and int; each row gives back what it got."""
    product = shared["matrix"] @ row["vector"]
    return {"sum": product, "count": jnp.int32(1), "id": row["id"]}, (row["id"], jnp.sum(product))


def inputs(count):
    rng = np.random.default_rng(count)
    shared = {"matrix": jnp.asarray(rng.normal(size=(3, 2)), jnp.float32)}
    rows = {
        "vector": jnp.asarray(rng.normal(size=(count, 2)), jnp.float32),
        "id": jnp.arange(count, dtype=jnp.int32),
    }
    return shared, rows, jnp.asarray(rng.permutation(count), jnp.float32)


@pytest.mark.parametrize("count", [1, 7, 8])
@pytest.mark.parametrize("name", list(ALL))
def test_sum_and_order(name, count):
    shared, rows, cost = inputs(count)
    products = np.asarray(rows["vector"]) @ np.asarray(shared["matrix"]).T
    run = jax.jit(lambda shared, rows, cost: ALL[name](work, shared, rows, cost))
    for costs in (cost, None):
        total, (ids, sums) = run(shared, rows, costs)
        np.testing.assert_allclose(total["sum"], products.sum(axis=0), rtol=1e-5, atol=1e-6)
        assert int(total["count"]) == count and int(total["id"]) == count * (count - 1) // 2
        assert total["count"].dtype == jnp.int32
        np.testing.assert_array_equal(ids, np.arange(count))
        np.testing.assert_allclose(sums, products.sum(axis=1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["chunked 3", "sharded", "sharded chunked"])
def test_fillers_add_nothing_even_if_they_are_infinite(name):
    def bad(shared, row):
        return jnp.where(row == 6, jnp.inf, row), row

    total, each = jax.jit(lambda rows: ALL[name](bad, (), rows, None))(jnp.arange(7.0))
    assert np.isinf(total)
    total, each = jax.jit(lambda rows: ALL[name](bad, (), rows, None))(jnp.arange(10.0, 17.0))
    assert float(total) == sum(range(10, 17))
    np.testing.assert_array_equal(each, np.arange(10.0, 17.0))


@dataclasses.dataclass(frozen=True)
class Largest:
    """An inner executor that tells each row the largest cost in its group."""

    def __call__(self, fn, shared, rows, cost=None):
        total, each = executors.vmapped()(fn, shared, rows)
        return total, jnp.broadcast_to(jnp.max(each), each.shape)


def test_groups_are_of_like_cost():
    cost = jnp.array([3.0, 50, 2, 40, 1, 30, 60])  # the one of cost 1 shares its group with a filler

    def echo(shared, row):
        return row, row

    _, each = jax.jit(lambda c: executors.chunked(2, Largest())(echo, (), c, c))(cost)
    assert each.tolist()[:4] + each.tolist()[5:] == [3.0, 60.0, 3.0, 40.0, 40.0, 60.0]


def test_costly_rows_are_dealt_to_the_devices_in_turn():
    cost = jnp.array([8.0, 7, 6, 5, 4, 3, 2, 1])

    def echo(shared, row):
        return row, row

    dealt = executors.sharded(mesh_of_four, Largest())
    _, each = jax.jit(lambda c: dealt(echo, (), c, c))(cost)
    assert each.tolist() == [8, 7, 6, 5, 8, 7, 6, 5]


def test_records_are_hashable_and_equal_by_value():
    for build in (executors.vmapped, executors.looped, executors.auto, lambda: executors.chunked(3)):
        assert build() == build() and hash(build()) == hash(build())
    assert executors.chunked(3) != executors.chunked(4)
    assert executors.sharded(mesh_of_four) == executors.sharded(mesh_of_four)


def test_auto_chooses_by_what_a_client_returns():
    def give(width):
        return lambda shared, row: (jnp.zeros(width), row)

    rows = jnp.zeros(50)
    assert executors.auto().choose(give(4), (), rows) == executors.chunked(GROUP)
    assert executors.auto().choose(give(SMALL), (), rows) == executors.looped()


def test_executors_agree_on_a_round():
    """The same round under each: equal up to the order of the sums."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), rng.integers(0, 3, 40)
    pool = fh.pool(x, y, num_classes=3)
    parts = np.split(np.arange(40), [3, 3, 20, 24, 31])
    federation = fh.from_index_lists(pool, None, parts, test=0.0)
    algorithm = fh.algorithms.scaffold(fh.models.softmax(pool), fh.local.sgd(0.1, batch_size=4))
    seen = []
    for name in ("vmapped", "sharded chunked", "chunked looped"):
        round_fn = fh.make_round(fh.sampling.everyone(), ALL[name])
        state = fh.initial_state(algorithm, federation, key=jax.random.key(0), round_fn=round_fn)
        seen.append(jax.jit(fh.make_block(round_fn, 2))(algorithm, state, federation))
    for one, other in itertools.pairwise(seen):
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
            if jnp.issubdtype(a.dtype, jnp.floating):
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
