"""Notices: silence on clients that are alike, and the one that is not is named."""

import jax
import numpy as np
import pytest

import fedjax_het as fh
from fedjax_het.assembly import assemble
from fedjax_het.engine import History, Variable
from fedjax_het.engine.notices import left_behind


def piece(accuracy, rows, trained=None, ids=None):
    accuracy, rows = np.asarray(accuracy, np.float32), np.asarray(rows)
    flat = {
        "personal/accuracy": np.where(rows > 0, accuracy, np.nan),
        "rows": rows,
        "trained": np.ones(len(rows), bool) if trained is None else np.asarray(trained),
        "client": np.arange(len(rows)) if ids is None else np.asarray(ids),
    }
    return History({name: Variable(("evaluation", "client"), v[None]) for name, v in flat.items()})


@pytest.mark.parametrize("level", [0.3, 0.8, 0.95, 0.99])
@pytest.mark.parametrize("rows", ["few", "many", "mixed"])
def test_bad_luck_is_no_notice(level, rows):
    """Clients of one true accuracy: fewer than 1 % of evaluations name anybody."""
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(1000):
        sizes = {"few": rng.integers(1, 8, 40), "many": np.full(40, 60), "mixed": rng.geometric(0.05, 40)}[rows]
        alarms += left_behind(piece(rng.binomial(sizes, level) / sizes, sizes)) is not None
    assert alarms < 10


def test_a_client_far_below_is_named():
    accuracy, rows = np.full(30, 0.9), np.full(30, 20)
    accuracy[[4, 7]] = 0.2, 0.1
    text = left_behind(piece(accuracy, rows, ids=np.arange(30) + 100))
    assert text.startswith(
        "2 clients do much worse than the median accuracy of 0.90: client 107 (0.10), 104 (0.20)."
    )
    assert "try a personal or clustered method" in text
    accuracy[:8] = 0.05
    assert "and 3 more" in left_behind(piece(accuracy, rows))


def test_what_is_no_reason():
    accuracy, rows = np.full(30, 0.9), np.full(30, 20)
    accuracy[4] = 0.1
    assert left_behind(piece(accuracy, np.where(np.arange(30) == 4, 2, 20))) is None, "two rows"
    assert left_behind(piece(accuracy, np.where(np.arange(30) == 4, 0, 20))) is None, "no rows"
    assert left_behind(piece(accuracy, rows, np.arange(30) != 4)) is None, "never trained: no wonder"
    assert left_behind(piece(accuracy[:4], rows[:4])) is None, "too few to compare with"
    assert left_behind(piece(np.where(np.arange(30) == 4, 0.75, 0.9), 100 * rows)) is None, "not much worse"
    assert left_behind(piece(np.linspace(0, 1, 30), rows)) is None, "all differ"
    assert left_behind(History({})) is None


def digits(flipped=()):
    """40 clients of digits, alike but for turned labels of some."""
    pool = fh.datasets.digits()
    rng = np.random.default_rng(0)
    parts = np.array_split(rng.permutation(len(pool.y)), 40)
    y = np.array(pool.y)
    for client in flipped:
        y[parts[client]] = (y[parts[client]] + 5) % 10
    pool = fh.pool(np.asarray(pool.x), y, num_classes=10)
    test = [part[:15] for part in parts]
    return assemble(pool, [part[15:] for part in parts], None, test)


@pytest.mark.parametrize("flipped", [(), (17,)], ids=["alike", "one flipped"])
def test_on_digits(flipped):
    federation = digits(flipped)
    algorithm = fh.algorithms.fedavg(
        fh.models.softmax(federation.pool), fh.local.sgd(0.1, batch_size=10, epochs=2)
    )
    _, history = fh.simulate(
        algorithm, federation, rounds=20, every=2, sampler=fh.sampling.uniform(20), key=jax.random.key(3)
    )
    if not flipped:
        assert history.notices == ()
        return
    assert history.notices[-1][0] == 20
    assert all("1 client does" in text and "client 17 (" in text for _, text in history.notices)
    assert history.notices[-1][1] in history.summary()
