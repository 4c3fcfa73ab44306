"""Ways in which clients differ, each a partition of a pool or a change of what a client sees."""

from fedjax_het.heterogeneity import iid, label

__all__ = ["iid", "label"]
