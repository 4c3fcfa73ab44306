"""describe: all that can be said of a federation before a model is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from fedjax_het import analysis, heterogeneity
from fedjax_het.federation import Federation

__all__ = ["Findings", "describe"]


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
    """What a federation holds, and how its clients differ. `str()` is text, `as_dict()` is JSON.

    Attributes:
        holdings: who holds how many rows of what, against IID splits, and what changes over time.
        feature_shift: whether clients differ in P(x), and in P(x | y); None if it was not measured.
        concept_shift: whether clients differ in P(y | x); None if it was not measured.
        unmeasured: name of a part that the rows do not allow -> why.
    """

    holdings: heterogeneity.Description
    feature_shift: analysis.FeatureShift | None
    concept_shift: analysis.ConceptShift | None
    unmeasured: Mapping[str, str]

    def as_dict(self, *, each: bool = False) -> dict[str, Any]:
        """What `heterogeneity.Description.as_dict` has, with "feature_shift", "concept_shift", "unmeasured".

        Args:
            each: whether to list every client too, under "each".
        """
        told = self.holdings.as_dict(each=each)
        for name in ("feature_shift", "concept_shift"):
            part = getattr(self, name)
            told[name] = None if part is None else part.as_dict()
        return {**told, "unmeasured": dict(self.unmeasured)}

    def __str__(self) -> str:
        parts = [self.holdings, self.feature_shift, self.concept_shift]
        parts += [f"{name.replace('_', ' ')}: not measured, {why}" for name, why in self.unmeasured.items()]
        return "\n\n".join(str(part) for part in parts if part is not None)


def describe(
    federation: Federation,
    *,
    split: str = "train",
    phase: int = 0,
    feature_shift: bool = True,
    concept_shift: bool = True,
    seed: int = 0,
    announce: Callable[[str], None] = lambda text: None,
) -> Findings:
    """Everything that `heterogeneity.describe`, `analysis.feature_shift` and `analysis.concept_shift` say.

    The first looks at all clients; the other two train small models on a sample of them, which takes some
    seconds each.

    Args:
        federation: any.
        split: "train", "valid" or "test".
        phase: of a federation that changes over time; what changes from phase to phase is told in any case.
        feature_shift: whether to measure it.
        concept_shift: whether to measure it.
        seed: of the null distributions and of the samples.
        announce: told what is being measured.

    Raises:
        TypeError: no federation, numbers that are not whole.
        ValueError: no such split or phase.
    """
    announce("labels, sizes and phases")
    holdings = heterogeneity.describe(federation, split=split, phase=phase, seed=seed)
    asked = {
        "feature_shift": analysis.feature_shift if feature_shift else None,
        "concept_shift": analysis.concept_shift if concept_shift else None,
    }
    found: dict[str, Any] = dict.fromkeys(asked)
    unmeasured = {}
    for name, measure in asked.items():
        if measure is None:
            continue
        announce(name.replace("_", " "))
        try:
            found[name] = measure(federation, split=split, phase=phase, seed=seed)
        except ValueError as error:  # split and phase are there: it is the rows that do not allow it
            unmeasured[name] = str(error)
    return Findings(holdings, found["feature_shift"], found["concept_shift"], unmeasured)
