"""What changes between phases grows with how fast a federation drifts, and is chance where it does not."""

from functools import partial

import numpy as np

import fedjax_het as fh
from fedjax_het.heterogeneity import change, feature, iid, label, quantity, temporal


def start():
    rng = np.random.default_rng(0)
    pool = fh.pool(rng.standard_normal((4000, 3)), rng.permutation(4000) % 5)
    return iid(pool, clients=10, test=0.0)


def test_labels_change_as_fast_as_they_drift():
    """The faster the drift, the fewer phases it takes and the more one of them changes."""
    told = []
    for phases in (16, 4, 1):
        drift = partial(temporal.gradual, begin=0, end=16, phases=phases)
        federation = drift(start(), change=partial(label.classes, per_client=1, seed=1))
        told.append(change(federation, later=1))
    assert [found.labels for found in told] == sorted(found.labels for found in told)
    assert [found.new_rows for found in told] == sorted(found.new_rows for found in told)
    assert told[0].labels < 0.1 < 0.7 < told[-1].labels


def test_features_change_as_far_as_they_drift():
    told = []
    for spread in (0.0, 0.5, 2.0):
        federation = temporal.sudden(start(), change=partial(feature.gaussian, spread=spread), round=5)
        told.append(change(federation, later=1).features)
    assert told == sorted(told) and told[0] < 1e-6 and told[-1] > 1


def test_rows_dealt_anew_at_random_change_by_chance_alone():
    """At the level 99 %, for three deals."""
    for seed in range(3):
        anew = partial(quantity.power_law, exponent=0.0, seed=seed)
        found = change(temporal.sudden(start(), change=anew, round=5), later=1, draws=199, seed=seed)
        assert found.new_rows > 0.8
        # dealt by label, so that clients keep theirs: nearer than chance, never farther
        assert found.labels <= found.labels_chance.high
