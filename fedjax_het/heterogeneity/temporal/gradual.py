"""Gradual drift: a growing share of each client's rows is in another state."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from fedjax_het.check import positive_int, require
from fedjax_het.federation import SPLITS, Federation, Rows
from fedjax_het.heterogeneity.counts import held_rows
from fedjax_het.heterogeneity.temporal.changed import changed
from fedjax_het.phases import of_one_phase, over_time, states_truth, switch
from fedjax_het.split import generator
from fedjax_het.transforms import partly, recorded, uniform

__all__ = ["gradual"]


def gradual(
    federation: Federation,
    *,
    change: Callable[[Federation], Federation],
    begin: int,
    end: int,
    phases: int = 10,
    spread: int = 0,
    seed: int = 0,
) -> Federation:
    """Between two rounds, clients come to hold more and more rows of the state that `change` makes.

    The share of client k that has changed in round r is

        s_k(r) = clip((r - b_k) / (end - begin), 0, 1),   b_k = begin + u_k,   u_k uniform in {0, ..., spread},

    held constant during a phase at its value in the phase's first round. Of a client that holds n rows before
    and n' other rows after, s n of the old ones (rounded) are gone and s n' of the new ones (rounded) are in:
    a window that slides over its old rows and then its new ones, both in random order. Where rows stay and
    transforms are added, a row r is seen through them if its own uniform draw u(r, k) < s, so changed rows stay
    changed. Where both happen, rows come and go by the same draws, so exactly the new rows are seen through the
    new transforms; the counts then follow s n to sampling error, and a small client may be without rows for a
    while. Training, validation and test rows drift alike, each within its split. Clients take up and drop rows
    in orders of their own, so while rows are dealt anew one may be with two clients at a time, or with none.

    Args:
        federation: of one phase.
        change: Federation -> Federation over the same clients and the same pool, which may deal rows anew and
            append transforms.
        begin: the last round in which no client has changed, if `spread` is 0.
        end: the first round in which all rows have changed, if `spread` is 0.
        phases: how many steps the share takes from 0 to 1; there are as many as rounds at most, and without a
            spread no more than the largest client has training rows.
        spread: rounds over which the clients' beginnings are spread.
        seed: of the u_k and of the order of the rows; `change` has a seed of its own.

    Returns:
        The federation; truth: "begin", the b_k as int [N], and what `change` records under "state 1/name".

    Raises:
        TypeError: not a federation, a change that is no function or returns something else, rounds that are not
            whole numbers.
        ValueError: a federation that has phases, an end that is not after the beginning, a change that returns
            other clients or another pool, or takes transforms away.

    Reference: Gama, Zliobaite, Bifet, Pechenizkiy, Bouchachia, "A survey on concept drift adaptation", ACM
        Computing Surveys 46(4), 2014, section 2.2, figure 2 (gradual: a mixture whose weight moves from the old
        concept to the new one).
    """
    before = of_one_phase("federation", federation)
    begin = positive_int("begin", begin, least=0, remedy="it is a round, such as 20")
    end = positive_int("end", end, remedy="it is a round, such as 80")
    require(end > begin, f"end must be > begin, got {end} after {begin}: use sudden for a change in one round")
    steps = positive_int("phases", phases, remedy="it is the steps from the old state to the new one")
    spread = positive_int("spread", spread, least=0, remedy="0 lets all clients begin at once")
    rng = generator(seed, "gradual")
    after = changed("change", change, before)
    kept = before.transforms
    require(
        len(after.transforms) >= len(kept) and all(a is b for a, b in zip(kept, after.transforms)),
        "what change returns must keep the transforms that the federation has, got others: append to "
        "federation.transforms",
    )
    added = after.transforms[len(kept) :]
    late = rng.integers(0, spread, before.num_clients, endpoint=True)
    salt = rng.integers(0, 2**32, before.num_clients, dtype=np.uint32)
    span = end - begin + int(late.max())
    rounds = np.unique(begin + -(-span * np.arange(1, steps + 1) // steps))
    most = max(before.spec.capacity[0], after.spec.capacity[0])
    require(
        spread > 0 or len(rounds) <= most,  # clients that begin in different rounds need phases of their own
        f"phases must be <= {most}, got {len(rounds)}: no client has more training rows, so there are no "
        "smaller steps",
    )
    share = np.clip((rounds[:, None] - begin - late) / (end - begin), 0, 1)
    share = np.concatenate([np.zeros((1, len(late))), share]).astype(np.float32)
    rows = {split: _drifting(split, before, after, share, salt, exact=not added) for split in SPLITS}
    real = jnp.asarray(share, jnp.result_type(float))
    mixed = tuple(partly(transform, real, jnp.asarray(salt[None])) for transform in added)
    return over_time(
        before,
        switch(rounds.tolist()),
        len(share),
        rows=rows,
        transforms=(*kept, *mixed),
        truth=recorded(states_truth([before, after]), begin=begin + late),
    )


def _drifting(
    split: str, before: Federation, after: Federation, share: np.ndarray, salt: np.ndarray, *, exact: bool
) -> Rows:
    """Windows over each client's old rows and then its new ones.

    Args:
        split: whose rows.
        before: the old state.
        after: the new state.
        share: of rows that have changed, float32 [T, N].
        salt: the clients' own random numbers, uint32 [N].
        exact: whether shares are rounded to rows, rather than rows drawn with the share as their chance.
    """
    held = [held_rows(state, split=split) for state in (before, after)]
    if all(np.array_equal(a, b) for a, b in zip(*held)):
        return before.rows(split)
    count = [np.bincount(owner, minlength=share.shape[1]) for owner, _ in held]
    draw = [np.asarray(uniform(jnp.asarray(row), jnp.asarray(salt[owner]))) for owner, row in held]
    if exact:
        moved = [np.rint(share * each).astype(np.int64) for each in count]
    else:
        moved = [
            np.stack([np.bincount(owner[u < s[owner]], minlength=len(s)) for s in share])
            for (owner, _), u in zip(held, draw)
        ]
    (old_owner, old_row), (new_owner, new_row) = held
    owner, row = np.concatenate([old_owner, new_owner]), np.concatenate([old_row, new_row])
    new = np.repeat([0, 1], [len(draw[0]), len(draw[1])])
    total = count[0] + count[1]
    offset = np.cumsum(total) - total + moved[0]
    size = count[0] - moved[0] + moved[1]
    index = row[np.lexsort((np.concatenate(draw), new, owner))]
    return Rows(jnp.asarray(index, jnp.int32), jnp.asarray(offset, jnp.int32), jnp.asarray(size, jnp.int32))
