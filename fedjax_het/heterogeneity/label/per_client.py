"""Label skew of clients of given sizes: each draws its own label proportions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedjax_het.check import require, scalar
from fedjax_het.federation import Federation
from fedjax_het.heterogeneity.deal import deal_by, draw
from fedjax_het.heterogeneity.shares import draw_shares, log_shares, wishes
from fedjax_het.heterogeneity.source import GROUPS, result, sizes_of, source_of
from fedjax_het.heterogeneity.strata import appearance, named
from fedjax_het.pool import Pool
from fedjax_het.split import generator

__all__ = ["dirichlet_per_client"]


def dirichlet_per_client(
    source: Pool | Federation,
    *,
    clients: int | None = None,
    alpha: float,
    sizes: int | Sequence[int] | None = None,
    replacement: bool = False,
    seed: int = 0,
    test: float | None = None,
    valid: float | None = None,
) -> Federation:
    """Draw each client's label proportions from a Dirichlet distribution around those of the pool.

    For k = 1..N, with q the label proportions of the pool:
        P_k ~ Dir(alpha q),   E|P_k - q|^2 = (1 - |q|^2) / (alpha + 1)
        client k gets n_k rows, in the proportions P_k as nearly as the rows at hand allow

    alpha is the sum of the concentrations: over K equally frequent classes Dir(alpha q) is the symmetric
    Dir(alpha / K). Without replacement every row goes to at most one client, and to exactly one if the sizes
    add up to all rows; then what is held differs from P, since the classes' totals are given: it is the table
    nearest to n_k P_k with these sums. That limits the skew: for alpha so small that clients wish for one
    class each, not all can have theirs, and still smaller values change little. With replacement each client
    draws its rows independently by P_k.

    Args:
        source: M labelled rows; or a federation, whose rows are dealt anew to the same clients in the same
            sizes.
        clients: N, for a pool.
        alpha: concentration, > 0.
        sizes: n, N whole numbers, or one for all; by default as equal as possible, or a federation's own.
        replacement: whether a row may be held by several clients, or twice by one. The copies of one client
            may then land on both sides of its cut.
        seed: of the draws and of the cut.
        test: fraction of each client's rows held out for testing, stratified by label; 0.2 by default. Left
            out for a federation, whose rows stay in the split that they are in.
        valid: the same for validation; 0 by default.

    Returns:
        The federation; truth: "proportions", the P as drawn, float32 [N, K]; "sizes", n, int32 [N], and
        "size_alone", who is known by its size, bool [N].

    Raises:
        TypeError: a source of another kind, counts that are not whole, an alpha that is no number.
        ValueError: alpha <= 0, more clients than rows, sizes that do not fit, rows without a label each, a
            fraction out of range.

    Reference: Hsu, Qi, Brown, "Measuring the effects of non-identical data distribution for federated visual
        classification", 2019, section 3 (alpha, q as there).

    Departures: the paper's clients draw in turn, and classes that have run out are left out of later draws, so
        the last clients are unlike the first; here no client comes before another.
    """
    given = source_of(source, clients)
    alpha = scalar("alpha", alpha, above=0, remedy="small values skew the labels, large ones even them out")
    labels = given.labels
    count = sizes_of(given, sizes, replacement=replacement)
    label, found = appearance(labels)
    frequency = np.bincount(label) / len(label)
    rng = generator(seed, "dirichlet per client")
    kinds = given.pool.spec.num_classes or 0
    if replacement:
        require(
            given.federation is None,
            "replacement must be False for a Federation, got True: its clients share the rows that they hold",
        )
        proportions = draw_shares(rng, alpha * frequency, given.clients, found, kinds)
        held = draw(label, proportions, found, count, rng)
    else:
        log = log_shares(rng, alpha * frequency, given.clients)
        held, _ = deal_by(given, label, wishes(log), count, rng)
        proportions = named(np.exp(log).astype(np.float32), found, kinds)
    truth = {"proportions": proportions}
    return result(given, held, test=test, valid=valid, seed=seed, truth=truth, keep=GROUPS)
