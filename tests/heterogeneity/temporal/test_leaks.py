"""Rows that are dealt anew over time stay in their split: nobody is tested on what somebody has trained on."""

from functools import partial

import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het.heterogeneity import feature, iid, label, quantity, temporal

DEALS = {
    "labels by class": partial(label.dirichlet, alpha=0.3, seed=1),
    "labels by client": partial(label.dirichlet_per_client, alpha=0.3, seed=1),
    "shards": partial(label.shards, seed=1),
    "classes": partial(label.classes, per_client=1, seed=1),
    "sizes": partial(quantity.power_law, seed=1),
    "covariate": partial(feature.by_feature, alpha=0.3, seed=1),
}
TIMES = {
    "sudden": lambda held, deal: temporal.sudden(held, change=deal, round=3, spread=4),
    "gradual": lambda held, deal: temporal.gradual(held, change=deal, begin=0, end=8, phases=4),
    "recurring": lambda held, deal: temporal.recurring(held, changes=[deal], length=2, offset="random"),
}


@pytest.mark.parametrize("deal", DEALS)
@pytest.mark.parametrize("time", TIMES)
def test_no_row_is_in_two_splits_at_any_time(time, deal):
    rng = np.random.default_rng(0)
    pool = fh.pool(rng.standard_normal((600, 3)), rng.permutation(600) % 4)
    federation = TIMES[time](iid(pool, clients=8, test=0.25, valid=0.1), DEALS[deal])
    seen = {}
    for split in ("train", "valid", "test"):
        rows = federation.rows(split)
        index, offset, size = (np.asarray(leaf) for leaf in (rows.index, rows.offset, rows.size))
        held = [index[o : o + s] for o, s in zip(offset.ravel(), size.ravel())]
        seen[split] = set(np.concatenate(held).tolist())
    assert seen["test"] and seen["valid"] and len(seen["train"]) > 300
    assert (
        not seen["train"] & seen["test"]
        and not seen["train"] & seen["valid"]
        and not seen["valid"] & seen["test"]
    )
