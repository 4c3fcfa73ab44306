"""Pictures: functions that take Histories, federations or arrays and return a matplotlib Figure."""

from fedjax_het.plots.bounds import bounds_by_step
from fedjax_het.plots.client_drift import drift_by_layer, drift_by_step
from fedjax_het.plots.clients import client_distribution, client_gain
from fedjax_het.plots.curves import (
    dissimilarity_by_round,
    drift_by_round,
    metric_by_bytes,
    metric_by_round,
    metric_by_seconds,
)
from fedjax_het.plots.embedding import client_map
from fedjax_het.plots.gains import gain_by_size
from fedjax_het.plots.gallery import pictures
from fedjax_het.plots.heterogeneity import client_sizes, label_counts, label_distribution
from fedjax_het.plots.membership import cluster_assignment
from fedjax_het.plots.mixtures import mixture_weights
from fedjax_het.plots.phases import phase_timeline
from fedjax_het.plots.relabelling import label_map
from fedjax_het.plots.relations import similarity_map, task_relationship
from fedjax_het.plots.samples import sample_images
from fedjax_het.plots.scatter import sample_rows
from fedjax_het.plots.style import save, styled
from fedjax_het.plots.vocabulary import token_distribution

__all__ = [
    "bounds_by_step",
    "client_distribution",
    "client_gain",
    "client_map",
    "client_sizes",
    "cluster_assignment",
    "dissimilarity_by_round",
    "drift_by_layer",
    "drift_by_round",
    "drift_by_step",
    "gain_by_size",
    "label_counts",
    "label_distribution",
    "label_map",
    "metric_by_bytes",
    "metric_by_round",
    "metric_by_seconds",
    "mixture_weights",
    "phase_timeline",
    "pictures",
    "sample_images",
    "sample_rows",
    "save",
    "similarity_map",
    "styled",
    "task_relationship",
    "token_distribution",
]
