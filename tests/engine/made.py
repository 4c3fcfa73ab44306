"""Histories made by hand."""

import numpy as np

from fedjax_het.engine import History, Variable

ROWS = np.array([10, 0, 5, 40, 1])


def made(start=0, rounds=6, every=2, seed=0, *, valid=True, sampled=False, newcomers=False, auc=False):
    """A History of `rounds` rounds from `start`, evaluated every so many; five clients, one without rows."""
    rng = np.random.default_rng(seed)
    at = np.arange(start + every, start + rounds + 1, every)
    count, clients = len(at), len(ROWS)
    rows = np.tile(ROWS, (count, 1))
    variables = {
        "round": Variable(("round",), np.arange(start, start + rounds)),
        "seconds": Variable(("round",), np.arange(1.0, rounds + 1)),
        "bytes_down": Variable(("round",), np.full(rounds, 1_000_000)),
        "bytes_up": Variable(("round",), np.full(rounds, 2_000_000)),
        "cohort": Variable(("round", "slot"), rng.integers(0, clients, (rounds, 2))),
        "info/loss": Variable(("round", "slot"), rng.random((rounds, 2)).astype(np.float32)),
        "measure/spread/G2": Variable(("round", "axis_0"), rng.random((rounds, 3))),
        "evaluated_at": Variable(("evaluation",), at),
        "registered": Variable(("evaluation",), np.full(count, 50 if sampled else clients)),
    }
    ids = np.tile(np.arange(clients), (count, 1))
    if sampled:
        ids = np.sort(np.argsort(rng.random((count, 50)), axis=1)[:, :clients], axis=1)
    variables["client"] = Variable(("evaluation", "client"), ids)
    variables["trained"] = Variable(("evaluation", "client"), np.tile(np.arange(clients) < 3, (count, 1)))
    variables["rows"] = Variable(("evaluation", "client"), rows)

    def scores(prefix, client, rows):
        for metric in ("loss", "accuracy"):
            values = np.where(rows > 0, rng.random(rows.shape), np.nan)
            union = np.nansum(values * rows, 1) / rows.sum(1)
            variables[f"{prefix}global/{metric}"] = Variable(("evaluation",), union)
            for kind in ("shared", "personal"):
                variables[f"{prefix}{kind}/{metric}"] = Variable(("evaluation", client), values)

    scores("", "client", rows)
    if auc:
        undefined = np.where(np.arange(clients) == 0, np.nan, variables["personal/accuracy"].values)
        variables["personal/auc"] = Variable(("evaluation", "client"), undefined)
    if valid:
        variables["valid/rows"] = Variable(("evaluation", "client"), rows)
        scores("valid/", "client", rows)
    if newcomers:
        rows = np.tile([3, 4], (count, 1))
        variables["newcomer/rows"] = Variable(("evaluation", "newcomer"), rows)
        scores("newcomer/", "newcomer", rows)
    return History(variables, notices=((int(at[-1]), "client 3 does much worse"),))


def with_values(history, **values):
    """The same with other values of some variables, "/" written "__"."""
    changed = dict(history.variables)
    for name, array in values.items():
        name = name.replace("__", "/")
        changed[name] = Variable(changed[name].dims, np.asarray(array))
    return History(changed, history.interrupted, history.notices)
