"""How likely clients are to be available, given which classes they hold."""

from __future__ import annotations

import numpy as np

from fedjax_het.check import known, number, require
from fedjax_het.federation import Federation
from fedjax_het.heterogeneity.counts import label_counts

__all__ = ["RULES", "label_chances"]

RULES = ("lowest", "kinds")
"""lowest: by the lowest class that a client holds; kinds: by how many classes it holds."""


def label_chances(
    federation: Federation, strength: float, *, rule: str = "lowest", phase: int = 0
) -> np.ndarray:
    """Chances for `intermittent` that lean towards some classes: 1 - strength + strength * s_k, float [N].

    s_k is the lowest class that client k holds over the highest there is ("lowest": clients of late classes
    are always available, those of the first with probability 1 - strength), or the classes it holds over all
    K ("kinds": clients of few classes are less often available).

    Args:
        federation: of labelled rows; training rows are looked at.
        strength: in [0, 1]; 0 has everybody available.
        rule: one of `RULES`.
        phase: of a federation that changes over time.

    Returns:
        One chance a client; an empty client's is 0.

    Raises:
        TypeError, ValueError: no labels, an unknown rule or phase, a strength outside [0, 1].

    Reference: Gu et al., "Fast Federated Learning in the Presence of Arbitrary Device Unavailability" (MIFA),
    NeurIPS 2021, experiments ("lowest"); Wang et al., "FedGS: Federated Graph-based Sampling with Arbitrary
    Client Availability", AAAI 2023, modes YMaxFirst and FewerYFirst.

    Departures: FedGS's mode is named for fewer labels first, but its code, followed here, makes clients with
    more labels available more often.
    """
    known("rule", rule, RULES)
    shape = number("strength", strength, least=0, most=1).shape
    require(shape == (), f"strength must be one number, got shape {shape}: call once for each")
    held = label_counts(federation, phase=phase) > 0
    classes = held.shape[1]
    leaning = held.argmax(axis=1) / max(1, classes - 1) if rule == "lowest" else held.mean(axis=1)
    return np.where(held.any(axis=1), 1 - strength + strength * leaning, 0.0)
