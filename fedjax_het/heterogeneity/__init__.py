"""Ways in which clients differ, each a partition of a pool or a change of what a client sees."""

from fedjax_het.heterogeneity import (
    concept,
    distance,
    feature,
    label,
    natural,
    null,
    quantity,
    sizes,
    temporal,
)
from fedjax_het.heterogeneity.change import Change, change
from fedjax_het.heterogeneity.compose import Steps, compose
from fedjax_het.heterogeneity.counts import label_counts, sizes_of
from fedjax_het.heterogeneity.describe import Description, describe
from fedjax_het.heterogeneity.iid import iid
from fedjax_het.heterogeneity.measures import MEASURES, skew
from fedjax_het.heterogeneity.target import Target, to_target

__all__ = [
    "Change",
    "Description",
    "MEASURES",
    "Steps",
    "Target",
    "change",
    "compose",
    "concept",
    "describe",
    "distance",
    "feature",
    "iid",
    "label",
    "label_counts",
    "natural",
    "null",
    "quantity",
    "sizes",
    "sizes_of",
    "skew",
    "temporal",
    "to_target",
]
