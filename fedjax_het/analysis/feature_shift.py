"""Feature shift: whether clients differ in P(x), and in P(x | y)."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from fedjax_het.analysis.components import components
from fedjax_het.analysis.mmd import linear_mmd
from fedjax_het.analysis.null_band import Measured, compared, plain
from fedjax_het.analysis.sample import sample
from fedjax_het.analysis.threads import one_thread
from fedjax_het.analysis.told_apart import told_apart
from fedjax_het.check import positive_int
from fedjax_het.federation import Federation
from fedjax_het.split import generator

__all__ = ["FeatureShift", "feature_shift"]

COMPONENTS = 64
"""Principal components that are compared."""

LEAST = 10
"""Rows that a client needs to be asked."""


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureShift:
    """See `feature_shift`.

    Attributes:
        client: who was sampled, int [m].
        rows: how many rows of each, int [m].
        classifier: how well clients are told apart by x, 0 chance .. 1.
        classifier_given: the same within labels; None where nothing can be compared.
        mmd: how far clients' means lie apart, in units of the variance within clients.
        mmd_given: the same within labels.
        confusion: share of the held-out rows of client i that the classifier gives to client j, float [m, m].
        compared: share of the rows whose label at least two clients hold twice or more; None without labels.
    """

    client: np.ndarray
    rows: np.ndarray
    classifier: Measured
    classifier_given: Measured | None
    mmd: Measured
    mmd_given: Measured | None
    confusion: np.ndarray
    compared: float | None

    @property
    def marginal(self) -> bool:
        """Whether P(x) is seen to differ: one of its two numbers lies above its band."""
        return self.classifier.above or self.mmd.above

    @property
    def given_label(self) -> bool | None:
        """Whether P(x | y) is seen to differ; None where it cannot be told."""
        if self.classifier_given is None or self.mmd_given is None:
            return None
        return self.classifier_given.above or self.mmd_given.above

    @property
    def reading(self) -> str:
        """What the numbers say, in a sentence."""
        return _READINGS[self.marginal, self.given_label]

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and text; None for NaN and for what does not apply."""
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        return {
            "client": self.client.tolist(),
            "rows": self.rows.tolist(),
            **{name: None if number is None else number.as_dict() for name, number in numbers.items()},
            "confusion": plain(self.confusion),
            "compared": self.compared,
            "marginal": self.marginal,
            "given_label": self.given_label,
            "reading": self.reading,
        }

    def __str__(self) -> str:
        """A table to read."""
        lines = [
            f"Feature shift: {len(self.client)} clients, {self.rows.min()} to {self.rows.max()} rows of each"
        ]
        for name, words in _NUMBERS.items():
            number = getattr(self, name)
            lines.append(f"  {words:38s} {'cannot be told' if number is None else number}")
        return "\n".join([*lines, self.reading])


_NUMBERS = {
    "classifier": "told apart by x (0 chance, 1 all)",
    "classifier_given": "told apart by x, given the label",
    "mmd": "distance of means / variance within",
    "mmd_given": "distance of means, given the label",
}

_READINGS = {
    (False, False): "Neither P(x) nor P(x | y) is seen to differ between clients.",
    (
        False,
        True,
    ): "P(x) looks alike while P(x | y) differs: the same features carry other labels (concept shift).",
    (False, None): "P(x) is not seen to differ between clients; of P(x | y) nothing can be told.",
    (True, False): "P(x) differs while P(x | y) looks alike: what label skew alone does.",
    (True, True): "P(x) and P(x | y) differ: feature shift, or label skew and concept shift together.",
    (True, None): "P(x) differs between clients; of P(x | y) nothing can be told.",
}


@one_thread()
def feature_shift(
    federation: Federation,
    *,
    split: str = "train",
    phase: int = 0,
    clients: int = 20,
    rows: int = 100,
    draws: int = 199,
    seed: int = 0,
) -> FeatureShift:
    """Whether a sample of clients differ in their features, and whether they still do given the label.

    Rows are taken as clients see them, flattened, standardised, and turned to their 64 leading principal
    components (of token tasks: how often each token occurs). Two numbers are measured on them, each beside a
    band that holds it with 99 % probability where clients are alike:
        classifier  can x alone say whose a row is? See `told_apart`: sees means and variances.
        mmd         how far apart are the means? See `linear_mmd`: 0.1 is a tenth of the variance within.
    and each once over all rows, which is about P(x), and once within labels, which is about P(x | y):

    | | P(x) | P(x given y) |
    |---|---|---|
    | label skew | above its band | inside |
    | feature shift (rotation, contrast, ...) | above | above |
    | concept shift (labels exchanged) | inside | above |
    | none of them | inside | inside |

    A label is what the client calls it. Where labels have been exchanged, the rows of "3" are the threes of
    one client and the eights of another, so P(x | y) differs although P(x) does not; only `concept_shift`
    asks about P(y | x). Within labels only those count that two clients hold twice or more. Regression and
    targets of several numbers have no labels, and the numbers given the label are None.

    Both numbers look for linear traces. What lies inside its band may still differ in ways that neither sees,
    or by less than so few rows show. A cut into train and test that is stratified by label makes clients a
    little more alike than chance, so a value may also lie below its band.

    Args:
        federation: any, with two clients of 10 rows or more.
        split: "train", "valid" or "test".
        phase: of a federation that changes over time.
        clients: how many are sampled at most.
        rows: how many rows of each at most.
        draws: of the null distributions; 199 are needed for a band of 99 %.
        seed: of the sample and of the null.

    Raises:
        TypeError: not a Federation, counts that are not whole numbers.
        ValueError: no such split or phase, counts that are too small, fewer than two clients with 10 rows,
            rows that are not finite or all the same.

    Reference: Lopez-Paz, Oquab, "Revisiting classifier two-sample tests", ICLR 2017; Gretton, Borgwardt, Rasch,
        Schölkopf, Smola, "A kernel two-sample test", JMLR 2012. Departures are told in `told_apart` and
        `linear_mmd`.
    """
    draws = positive_int("draws", draws, remedy="199 make a band of 99 %")
    taken = sample(federation, split=split, phase=phase, clients=clients, rows=rows, least=LEAST, seed=seed)
    z, none = components(taken.x, COMPONENTS), np.zeros_like(taken.owner)
    many = len(taken.client)

    def tests(stratum: np.ndarray, name: str) -> tuple[tuple[Measured, np.ndarray] | None, Measured | None]:
        apart = told_apart(
            z, taken.owner, stratum, clients=many, draws=draws, rng=generator(seed, f"classifier {name}")
        )
        mean = linear_mmd(
            z, taken.owner, stratum, clients=many, draws=draws, rng=generator(seed, f"mmd {name}")
        )
        return apart, mean

    marginal, mmd = tests(none, "of all rows")
    given, mmd_given = (None, None) if taken.labels is None else tests(taken.labels, "within labels")
    assert marginal is not None and mmd is not None  # two clients of ten rows can always be compared
    return FeatureShift(
        client=taken.client,
        rows=taken.rows,
        classifier=marginal[0],
        classifier_given=None if given is None else given[0],
        mmd=mmd,
        mmd_given=mmd_given,
        confusion=marginal[1],
        compared=None if taken.labels is None else float(compared(taken.owner, taken.labels).mean()),
    )
