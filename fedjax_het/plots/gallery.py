"""Every picture that says something about a federation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedjax_het.federation import Federation
from fedjax_het.heterogeneity.counts import labelled, sizes_of
from fedjax_het.plots.embedding import client_map
from fedjax_het.plots.evidence import KINDS, applies
from fedjax_het.plots.heterogeneity import client_sizes, label_distribution
from fedjax_het.plots.phases import phase_timeline
from fedjax_het.plots.relabelling import label_map
from fedjax_het.plots.samples import sample_images
from fedjax_het.plots.scatter import sample_rows
from fedjax_het.plots.seen import labels_of_rows
from fedjax_het.plots.tokens import tokenised
from fedjax_het.plots.vocabulary import token_distribution

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["pictures"]


def pictures(federation: Federation, *, split: str = "train", phase: int = 0) -> dict[str, Figure]:
    """Every picture of a federation's heterogeneity that applies to it, by name.

    | name | where |
    |---|---|
    | client_sizes | always |
    | label_distribution | rows have one label each |
    | token_distribution | rows are tokens |
    | client_map | two clients with rows, of labels, tokens or numbers |
    | sample_images | rows are images [H, W] or [H, W, C] |
    | sample_rows | rows are other numbers, more than one |
    | label_map | clients call labels otherwise than the pool does |
    | phase_timeline | the federation changes over time |

    Args:
        federation: any.
        split: "train", "valid" or "test".
        phase: of a federation that changes over time.

    Returns:
        name -> matplotlib Figure; the name is that of the function in `fh.plots` that draws it.

    Raises:
        TypeError: not a Federation.
        ValueError: no such split or phase.
    """
    holders = int((sizes_of(federation, split=split, phase=phase) > 0).sum())
    spec = federation.spec.pool
    told = {"client_sizes": client_sizes(federation, split=split, phase=phase)}
    if labelled(federation):
        told["label_distribution"] = label_distribution(federation, split=split, phase=phase)
    if holders and tokenised(federation):
        told["token_distribution"] = token_distribution(federation, split=split, phase=phase)
    if holders > 1 and any(applies(federation, kind) for kind in KINDS):
        told["client_map"] = client_map(federation, split=split, phase=phase)
    if holders and spec.task != "tokens" and len(spec.feature_shape) in (2, 3):
        told["sample_images"] = sample_images(federation, split=split, phase=phase)
    elif holders and spec.task != "tokens" and spec.feature_shape not in ((), (1,)):
        told["sample_rows"] = sample_rows(federation, split=split, phase=phase)
    if holders and labelled(federation):
        _, before, after = labels_of_rows(federation, split=split, phase=phase)
        if (before != after).any():
            told["label_map"] = label_map(federation, split=split, phase=phase)
    if federation.spec.phases > 1:
        told["phase_timeline"] = phase_timeline(federation, split=split)
    return told
