"""What all shifts of features and of concepts have in common, by a table."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counting import compile_count
from hypothesis import given, settings
from hypothesis import strategies as st
from taking import of_client, pictures, taken

import fedjax_het as fh
from fedjax_het.heterogeneity import concept, feature

CLASSES, SHAPE = 4, (5, 5, 3)

FEATURE = {
    "rotate": (feature.rotate, "spread", 0, 60, "angle"),
    "affine": (feature.affine, "spread", 0, 0.5, "gain"),
    "affine offset": (feature.affine, "offset", 0, 0.5, "gain"),
    "blur": (feature.blur, "most", 0, 2, "sigma"),
    "noise": (feature.noise, "most", 0, 1, "level"),
    "noise ramp": (feature.noise, "ramp", 0, 1, "level"),
    "channels": (feature.channels, "spread", 0, 60, "mixing"),
    "gaussian": (feature.gaussian, "spread", 0, 1, "shift"),
}
"""Name -> (shift, its dial, where the dial changes nothing, a value, what it records)."""

CONCEPT = {
    "permute": (concept.permute, "moved", 0, 4, "permutation"),
    "swap": (concept.swap, "rate", 0, 1, "permutation"),
    "oppose": (concept.oppose, "rate", 0, 1, "opposition"),
}

OTHERS = {
    "domains": (feature.domains, "alpha", None, 0.5, "mixture"),
    "linear": (concept.linear, "difference", None, 1, "kernel"),
}
"""These have no value at which they change nothing."""

ALL = FEATURE | CONCEPT | OTHERS
FIXED = {"domains": {"domains": ["invert", "mirror"]}, "permute": {"clusters": 3}, "linear": {"clusters": 3}}


def federation_of(clients=6, rows=12, integers=False):
    x = pictures(np.random.default_rng(0), rows * clients, SHAPE, integers=integers)
    y = np.random.default_rng(1).integers(0, CLASSES, rows * clients)
    parts = np.split(np.arange(rows * clients), clients)
    return fh.from_index_lists(x, y, parts, num_classes=CLASSES, test=0.25)


def shifted(name, federation, value=None, **arguments):
    shift, dial, _, usual, _ = ALL[name]
    value = usual if value is None else value
    return shift(federation, **{dial: value}, **FIXED.get(name, {}), **arguments)


def same(one, other):
    """Whether two federations hold the same numbers."""
    a, b = jax.tree.leaves(one), jax.tree.leaves(other)
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b))


@pytest.mark.parametrize("integers", [False, True], ids=["floats", "uint8"])
@pytest.mark.parametrize("name", FEATURE | CONCEPT)
def test_nothing_changes_at_zero(name, integers):
    federation = federation_of(integers=integers)
    still = shifted(name, federation, ALL[name][2])
    for client in range(6):
        for split in ("train", "test"):
            for before, after in zip(taken(federation, client, split), taken(still, client, split)):
                np.testing.assert_array_equal(after, before)
                assert after.dtype == before.dtype


@pytest.mark.parametrize("name", ALL)
def test_what_is_left_alone(name):
    federation = federation_of(integers=True)
    changed = shifted(name, federation)
    assert changed.x is federation.x and changed.y is federation.y and changed.x.dtype == jnp.uint8
    for split in ("train", "valid", "test"):
        assert changed.rows(split) is federation.rows(split)
    assert changed.spec == federation.spec
    part, other = (1, 0) if name in FEATURE or name == "domains" else (0, 1)
    moved = False
    for client in range(6):
        before, after = taken(federation, client), taken(changed, client)
        np.testing.assert_array_equal(after[part], before[part])
        moved |= not np.array_equal(after[other], before[other])
    assert moved


@pytest.mark.parametrize("name", ALL)
def test_seeds_and_repetition(name):
    federation = federation_of()
    one, again, other = (shifted(name, federation, seed=seed) for seed in (1, 1, 2))
    assert same(one, again)
    assert name == "noise ramp" or not same(one.truth, other.truth)
    assert not same(one.transforms, other.transforms)
    twice = shifted(name, one, seed=1)
    told = ALL[name][-1]
    assert f"{told}/2" in twice.truth and len(twice.transforms) == 2
    assert same(twice.transforms[:1], one.transforms)
    assert not same(twice.transforms[0].arguments, twice.transforms[1].arguments)


def test_shifts_draw_independently():
    federation = federation_of(clients=40, rows=4)
    members = [
        np.asarray(shift.truth["cluster"])
        for shift in (
            feature.rotate(federation, clusters=4),
            feature.affine(federation, spread=1, clusters=4),
            feature.gaussian(federation, spread=1, clusters=4),
            feature.noise(federation, most=1, clusters=4),
            feature.blur(federation, most=1, clusters=4),
            feature.channels(federation, spread=1, clusters=4),
            feature.domains(federation, domains=["invert", "mirror"], alpha=1, clusters=4),
            concept.permute(federation, clusters=4),
            concept.swap(federation, rate=1, clusters=4),
            concept.linear(federation, difference=1, clusters=4),
        )
    ]
    assert len({tuple(member.tolist()) for member in members}) == len(members)
    gain = np.log(np.asarray(feature.affine(federation, spread=1).truth["gain"]))
    angle = np.asarray(feature.rotate(federation, spread=1).truth["angle"])
    assert abs(np.corrcoef(gain, angle)[0, 1]) < 4 / np.sqrt(40)


@pytest.mark.parametrize("name", ALL)
def test_another_number_or_seed_compiles_nothing(name):
    federation = federation_of()
    less = {"permute": 3}.get(name, ALL[name][3] / 2)
    first, *others = (
        shifted(name, federation),
        shifted(name, federation, less),
        shifted(name, federation, seed=5),
    )
    position = np.arange(12, dtype=np.int32)
    of_client(first, np.int32(0), position).x.block_until_ready()
    with compile_count() as count:
        for other in others:
            of_client(other, np.int32(0), position).x.block_until_ready()
    assert count.names == []


@settings(max_examples=25, derandomize=True, deadline=None)
@given(name=st.sampled_from(sorted(ALL)), clients=st.integers(3, 30), seed=st.integers(0, 99))
def test_every_client_has_arguments_and_a_truth(name, clients, seed):
    changed = shifted(name, federation_of(clients, rows=4), seed=seed)
    leaves = jax.tree.leaves(changed.transforms[0].arguments)
    assert leaves and all(leaf.shape[:2] == (1, clients) for leaf in leaves)
    assert all(np.all(np.isfinite(value)) for value in changed.truth.values())
    per_client = changed.truth["cluster" if name in ("permute", "linear") else ALL[name][-1]]
    assert per_client.shape[0] == clients


@pytest.mark.parametrize("name", ALL)
def test_all_clients_at_once_see_what_one_sees(name):
    federation = shifted(name, federation_of())
    every = everyone(federation)
    for client in range(6):
        x, y = taken(federation, client)
        np.testing.assert_allclose(every.x[client], x, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(every.y[client], y)


@jax.jit
def everyone(federation):
    """The training rows of all clients, of which each has nine."""
    client = jnp.arange(federation.num_clients, dtype=jnp.int32)
    located = federation.locate("train", jnp.int32(0), client)
    return jax.vmap(lambda own: federation.data("train", own).take(jnp.arange(9, dtype=jnp.int32)))(located)


def test_all_together_train():
    federation = federation_of(integers=True)
    for name in ALL:
        federation = federation if name in ("affine offset", "noise ramp") else shifted(name, federation)
    algorithm = fh.algorithms.fedavg(fh.models.softmax(federation.pool), fh.local.sgd(0.1, batch_size=4))
    state, _ = fh.simulate(algorithm, federation, rounds=2, key=jax.random.key(0))
    assert int(state.round) == 2
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state.server))
    assert len(federation.transforms) == len(ALL) - 2


def test_double_precision(x64):
    federation = federation_of()
    for name in ALL:
        shifted(name, federation)
        federation = shifted(name, federation)
    x, y = taken(federation, 0)
    assert x.dtype == np.float64 and y.dtype == np.int32


def test_shifts_stay_when_the_rows_of_a_client_are_changed():
    """A shift belongs to the client and the row, not to the place that the row has."""
    federation = shifted("noise", shifted("domains", federation_of()))
    rows = federation.train
    backwards = np.asarray(rows.index).copy()
    start, size = int(rows.offset[0, 2]), int(rows.size[0, 2])
    backwards[start : start + size] = backwards[start : start + size][::-1]
    other = dataclasses.replace(federation, train=dataclasses.replace(rows, index=jnp.asarray(backwards)))
    np.testing.assert_array_equal(taken(other, 2)[0], taken(federation, 2)[0][::-1])
