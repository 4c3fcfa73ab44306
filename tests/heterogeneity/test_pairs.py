"""Every kind of heterogeneity after every other: what each promises still holds when both are there."""

from functools import partial

import jax
import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het.heterogeneity import compose, concept, feature, iid, label, natural, quantity, temporal

CLIENTS, ROWS = 12, 600
SPLITS = ("train", "valid", "test")

STEPS = {
    "label": partial(label.dirichlet_per_client, alpha=0.7),
    "label per class": partial(label.dirichlet, alpha=0.7),
    "covariate": partial(feature.by_feature, alpha=0.7, bins=4),
    "feature": partial(feature.gaussian, spread=1.0),
    "concept": partial(concept.permute, clusters=3),
    "quantity": partial(quantity.power_law, exponent=1.0, min_size=2),
    "temporal": partial(temporal.growing, length=2, phases=3),
}
DEALS = ("label", "label per class", "covariate", "quantity")
SAID = {
    "label": ("proportions",),
    "label per class": ("drawn",),
    "covariate": ("selection",),
    "feature": ("shift",),
    "concept": ("cluster", "permutation"),
    "quantity": ("sizes",),
    "temporal": (),
}
"""What each step writes down that its own seed decides."""

PAIRS = [(a, b) for a in STEPS for b in STEPS if a != b and not (a == "temporal" and b in DEALS)]


def source():
    rng = np.random.default_rng(0)
    return fh.pool(rng.standard_normal((ROWS, 5)), np.arange(ROWS) % 4)


def natural_start():
    """Clients of 17, 21, ... rows that a column names."""
    weight = np.arange(CLIENTS) + 5.0
    size = np.floor(weight / weight.sum() * ROWS).astype(int)
    size[-1] += ROWS - size.sum()
    return natural.groups(source(), group=np.repeat(np.arange(CLIENTS), size))


def held(federation):
    """All rows of each client in the last phase, ascending."""
    parts = [[] for _ in range(CLIENTS)]
    for split in SPLITS:
        rows = federation.rows(split)
        index, offset, size = (np.asarray(leaf) for leaf in (rows.index, rows.offset[-1], rows.size[-1]))
        for k, (start, count) in enumerate(zip(offset, size)):
            parts[k].extend(index[start : start + count].tolist())
    return [np.sort(np.array(part, int)) for part in parts]


def said(federation, step):
    """The step's own draws; of shares of classes or bins, whatever order these have come in."""
    told = [np.asarray(federation.truth[name]).astype(float) for name in SAID[step]]
    return [np.sort(value, axis=-1) for value in told] if step in DEALS[:3] else told


@pytest.mark.parametrize(
    "start", [natural_start, partial(iid, source(), clients=CLIENTS)], ids=["natural", "iid"]
)
@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_promises_survive(a, b, start):
    begun = start()
    both = compose(partial(STEPS[a], seed=3), partial(STEPS[b], seed=3))(begun)
    mine = held(both)
    np.testing.assert_array_equal(np.sort(np.concatenate(mine)), np.arange(ROWS))
    size = np.array([len(part) for part in mine])
    if "quantity" in (a, b):
        np.testing.assert_array_equal(size, both.truth["sizes"])
    else:
        np.testing.assert_array_equal(size, [len(part) for part in held(begun)])
    assert len(both.transforms) == ("feature" in (a, b)) + ("concept" in (a, b))
    assert both.spec.phases == (3 if "temporal" in (a, b) else 1)
    for transform in both.transforms:
        for leaf in jax.tree.leaves(transform.arguments):
            assert leaf.shape[:2] == (1, CLIENTS)
    # the draws of a step are its own: those of the other, or its absence, do not touch them
    others = compose(partial(STEPS[a], seed=8), partial(STEPS[b], seed=3))(begun)
    alone = partial(STEPS[a], seed=3)(begun)
    for one, two in zip(said(both, b), said(others, b)):
        np.testing.assert_allclose(one, two, atol=1e-6)
    if (a in DEALS) <= (b not in DEALS) or a == "quantity":
        for one, two in zip(said(both, a), said(alone, a)):
            np.testing.assert_array_equal(one, two)
    if SAID[a]:
        assert any(
            not np.array_equal(one, two) for one, two in zip(said(alone, a), said(STEPS[a](begun, seed=8), a))
        )


@pytest.mark.parametrize("deal", DEALS)
def test_rows_are_dealt_before_they_change_over_time(deal):
    with pytest.raises(
        ValueError, match=r"step 2 \(\w+\): source must have one phase for this, got 3: .* last"
    ):
        compose(STEPS["temporal"], STEPS[deal])(natural_start())


def labels_of(federation):
    labels = np.asarray(federation.y)
    count = np.stack([np.bincount(labels[part], minlength=4) for part in held(federation)])
    return count / count.sum(1, keepdims=True)


def groups_of(federation, group):
    count = np.stack([np.bincount(group[part], minlength=4) for part in held(federation)])
    return count / count.sum(1, keepdims=True)


def likeness(a, b):
    """Correlation of two tables of shares over clients."""
    return np.corrcoef((a - a.mean(0)).ravel(), (b - b.mean(0)).ravel())[0, 1]


def test_skews_of_labels_sizes_and_covariates_stand_side_by_side():
    """Each is dealt by after the other and is there still: shares before and after go together."""
    rng = np.random.default_rng(1)
    pool = fh.pool(rng.standard_normal((12_000, 3)), rng.permutation(12_000) % 4)
    start = iid(pool, clients=CLIENTS)
    labelled = label.dirichlet_per_client(start, alpha=3.0, seed=1)
    sized = quantity.log_normal(labelled, sigma=0.5, seed=2)
    assert likeness(labels_of(labelled), labels_of(sized)) > 0.9
    chosen = feature.by_feature(sized, alpha=3.0, bins=4, seed=3)
    group = np.asarray(chosen.truth["group"])
    assert likeness(labels_of(sized), labels_of(chosen)) > 0.8
    assert likeness(groups_of(chosen, group), np.asarray(chosen.truth["selection"])) > 0.8
    np.testing.assert_array_equal(chosen.truth["sizes"], sized.truth["sizes"])
    again = quantity.power_law(chosen, exponent=0.5, seed=4)
    assert likeness(groups_of(chosen, group), groups_of(again, group)) > 0.8
    assert likeness(labels_of(chosen), labels_of(again)) > 0.8


def test_the_same_shift_twice_draws_anew():
    start = iid(source(), clients=CLIENTS)
    twice = compose(STEPS["feature"], STEPS["feature"])(start)
    assert not np.array_equal(twice.truth["shift"], twice.truth["shift/2"])
    assert abs(np.corrcoef(np.ravel(twice.truth["shift"]), np.ravel(twice.truth["shift/2"]))[0, 1]) < 0.4
