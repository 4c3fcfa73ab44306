"""Concept shift: whether clients differ in P(y | x), asked by exchanging their models."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from fedjax_het.analysis.components import components
from fedjax_het.analysis.discriminants import Discriminants
from fedjax_het.analysis.mmd import linear_mmd
from fedjax_het.analysis.null_band import Measured, compared, measured, plain, shuffled
from fedjax_het.analysis.ridges import Ridges
from fedjax_het.analysis.sample import Sample, sample
from fedjax_het.analysis.threads import one_thread
from fedjax_het.analysis.told_apart import told_apart
from fedjax_het.analysis.transfer import Scores, halves
from fedjax_het.check import positive_int, require
from fedjax_het.federation import Federation
from fedjax_het.split import generator

__all__ = ["ConceptShift", "concept_shift"]

COMPONENTS = 32
"""Principal components that the models see."""

COMMON = 200
"""Rows for which all discriminants choose a label, to see where they disagree."""

LEAST = 20
"""Rows that a client needs to be asked."""


@dataclasses.dataclass(frozen=True, eq=False)
class ConceptShift:
    """See `concept_shift`.

    Attributes:
        client: who was sampled, int [m].
        rows: how many rows of each, int [m].
        score: accuracy (of regression R^2) of client i's models on client j's rows, float [m, m]; NaN for two
            that share fewer than two labels.
        gap: what is lost by the models of others.
        disagreement: between the models of two clients on common rows, beyond that within clients.
        classifier: whether clients are told apart by x, see `FeatureShift`.
        mmd: how far their means lie apart, see `FeatureShift`.
        compared: share of the pairs of clients that could be compared.
    """

    client: np.ndarray
    rows: np.ndarray
    score: np.ndarray
    gap: Measured
    disagreement: Measured
    classifier: Measured
    mmd: Measured
    compared: float

    @property
    def comparable(self) -> bool:
        """Whether P(x) looks alike, so that a gap speaks of P(y | x)."""
        return not (self.classifier.above or self.mmd.above)

    @property
    def seen(self) -> bool:
        """Whether the gap or the disagreement lies above its band."""
        return self.gap.above or self.disagreement.above

    @property
    def reading(self) -> str:
        """What the numbers say, in a sentence."""
        return _READINGS[self.seen, self.comparable]

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and text; None for NaN."""
        return {
            "client": self.client.tolist(),
            "rows": self.rows.tolist(),
            "score": plain(self.score),
            **{name: getattr(self, name).as_dict() for name in _NUMBERS},
            "compared": self.compared,
            "comparable": self.comparable,
            "seen": self.seen,
            "reading": self.reading,
        }

    def __str__(self) -> str:
        """A table to read."""
        own = np.nanmean(np.diagonal(self.score))
        lines = [
            f"Concept shift: {len(self.client)} clients, {self.rows.min()} to {self.rows.max()} rows of each, "
            f"{100 * self.compared:.0f} % of their pairs compared",
            f"  {'score of own models':38s} {own:8.3f}",
            *(f"  {words:38s} {getattr(self, name)}" for name, words in _NUMBERS.items()),
        ]
        return "\n".join([*lines, self.reading])


_NUMBERS = {
    "gap": "lost by the models of others",
    "disagreement": "disagreement on common rows",
    "classifier": "P(x): told apart by x",
    "mmd": "P(x): distance of means / variance",
}

_READINGS = {
    (False, True): "No concept shift is seen: models serve others as they serve their own clients.",
    (False, False): "No concept shift is seen: models serve others, although P(x) differs between clients.",
    (True, True): "Concept shift: models do not serve others, and P(x) looks alike, so P(y | x) differs.",
    (True, False): "Models do not serve others, but P(x) differs too: concept shift, feature shift or both.",
}


@one_thread()
def concept_shift(
    federation: Federation,
    *,
    split: str = "train",
    phase: int = 0,
    clients: int = 12,
    rows: int = 200,
    draws: int = 199,
    seed: int = 0,
) -> ConceptShift:
    """What a sample of clients lose by each other's models, beside what they would lose by chance.

    Each client's rows, as it sees them, are cut in halves, and a linear model with a closed form is fitted on
    each (`Discriminants` for labels, `Ridges` for regression) over the 32 leading principal components of all.
    With A_ij the score of i's models on j's rows, each row by the model of the half that it is not in:
        gap = mean_j mean_{i != j} (A_jj - A_ij)
    and, since A depends on where the rows lie, also on rows that are the same for all models, with d_ij how
    often i's model of one half and j's of the other differ:
        disagreement = mean_{i < j} (d_ij + d_ji - d_ii - d_jj) / 2
    Both are about 0 where clients of equal counts are alike. The null shuffles rows among the clients within
    each label (of regression rows with their targets), so that all keep their counts of labels. Where clients
    are alike given the label, value and draws are exchangeable, so the band keeps its level.

    What is separated from what:
        Label skew. Two clients are compared on the labels that both hold, each label counting alike, by models
            to which all labels are equally likely a priori: having more threes than others makes no gap. Few
            rows of a label make a model worse on it; the null loses as much by that (its mean is then above
            0), so the value is to be read against its band. Clients that share fewer than two labels tell
            nothing of each other.
        Feature shift. A gap says P(y | x) only where P(x) is alike, which `comparable` looks into with the
            numbers of `feature_shift` (over all rows, on the components that the models see). Where P(x)
            differs, a linear model fitted elsewhere loses even if one P(y | x) holds for all; the disagreement
            on common rows asks all models in the same places, but they have still been fitted in different
            ones. Label skew alone also makes P(x) differ.
        Bad labels. Labels that are noise for everybody lower A_jj and A_ij alike: no gap.

    Args:
        federation: any with one label a row, or a regression.
        split: "train", "valid" or "test".
        phase: of a federation that changes over time.
        clients: how many are sampled at most, among those of 20 rows or more.
        rows: how many rows of each at most.
        draws: of the null distributions, each of which fits all models anew; 199 are needed for a band of 99 %.
        seed: of the sample, the halves and the null.

    Raises:
        TypeError: not a Federation, counts that are not whole numbers.
        ValueError: no such split or phase, counts that are too small, fewer than two clients with 20 rows, no
            two clients that share two labels, targets that are sequences of tokens or all the same.

    Reference: the taxonomy of Kairouz, McMahan et al., "Advances and open problems in federated learning",
        2021, section 3.1 ("same features, different label"). The measure is this package's own.
    """
    draws = positive_int("draws", draws, remedy="199 make a band of 99 %")
    taken = sample(federation, split=split, phase=phase, clients=clients, rows=rows, least=LEAST, seed=seed)
    z, many = components(taken.x, COMPONENTS), len(taken.client)
    features = {"clients": many, "draws": draws}
    none = np.zeros_like(taken.owner)
    apart = told_apart(z, taken.owner, none, rng=generator(seed, "classifier of all rows"), **features)
    mmd = linear_mmd(z, taken.owner, none, rng=generator(seed, "mmd of all rows"), **features)
    assert apart is not None and mmd is not None  # two clients of twenty rows can always be compared
    rng = generator(seed, "concept shift")
    models, z, stratum = _models(taken, z, rng, federation.spec.pool.name)
    found = models.scores(z, np.arange(len(z)))
    others = ~np.eye(many, dtype=bool) & ~np.isnan(found.gap)
    null = np.array([_both(models.scores(z, shuffled(stratum, rng)), others)[:, 0] for _ in range(draws)])
    gap, disagreement = _both(found, others)
    return ConceptShift(
        client=taken.client,
        rows=taken.rows,
        score=found.score,
        gap=measured(gap[0], gap[1:], null[:, 0]),
        disagreement=measured(disagreement[0], disagreement[1:], null[:, 1]),
        classifier=apart[0],
        mmd=mmd,
        compared=float(others.sum() / (many * (many - 1))),
    )


def _models(
    taken: Sample, z: np.ndarray, rng: np.random.Generator, name: str
) -> tuple[Discriminants | Ridges, np.ndarray, np.ndarray]:
    """(how to score, the rows that take part, within what they are shuffled)."""
    many = len(taken.client)
    if taken.labels is not None:
        kept = compared(taken.owner, taken.labels)
        owner, label = taken.owner[kept], taken.labels[kept]
        _, label = np.unique(label, return_inverse=True)
        classes = int(label.max(initial=0)) + 1
        held = np.zeros((many, classes), np.int64)
        held[owner, label] = 1
        shared = held @ held.T
        np.fill_diagonal(shared, 0)
        require(
            bool((shared >= 2).any()),
            "federation must have two clients that share two labels, got none among clients "
            f"{taken.client.tolist()}: concepts are compared on labels that both hold twice or more, so sample "
            "more clients or rows",
        )
        half = halves(np.unique(owner * classes + label, return_inverse=True)[1], rng)
        common = rng.permutation(len(owner))[:COMMON]
        return Discriminants(owner, label, half, common, many, classes), z[kept], label
    require(
        taken.y.dtype.kind == "f",
        f"federation must have one label a row or be a regression, got rows of {name!r} with targets of shape "
        f"{taken.y.shape[1:]}: cut the sequences so that one token follows each",
    )
    target = taken.y.reshape(len(taken.y), -1).astype(np.float64)
    spread = target.std(axis=0)
    varies = spread > 1e-9 * np.abs(target).max(axis=0)
    require(
        bool(varies.any()),
        "federation must have targets that vary, got the same y in all rows: see its transforms",
    )
    target = (target[:, varies] - target[:, varies].mean(axis=0)) / spread[varies]
    half, stratum = halves(taken.owner, rng), np.zeros_like(taken.owner)
    return Ridges(taken.owner, target, half, many), z, stratum


def _both(scores: Scores, others: np.ndarray) -> np.ndarray:
    """Gap and disagreement: the mean over clients, then each client's over the others, float [2, 1 + m]."""
    count = others.sum(0)
    told = np.stack([np.where(others, given, 0).sum(0) for given in (scores.gap, scores.disagreement)])
    client = np.divide(told, count, out=np.full(told.shape, np.nan), where=count > 0)
    return np.column_stack([np.nanmean(client, axis=1), client])
