"""Metrics: how sets of rows and lists of clients are judged."""

from fedjax_het.metrics import clustering, fairness, gain, temporal
from fedjax_het.metrics.classification import balanced_accuracy, class_accuracy, reweighted_accuracy
from fedjax_het.metrics.language import perplexity
from fedjax_het.metrics.metric import Metric, Ranking, low_is_good, row_means
from fedjax_het.metrics.ranking import auc
from fedjax_het.metrics.regression import r2, rmse

__all__ = [
    "Metric",
    "Ranking",
    "auc",
    "balanced_accuracy",
    "class_accuracy",
    "clustering",
    "fairness",
    "gain",
    "low_is_good",
    "perplexity",
    "r2",
    "reweighted_accuracy",
    "rmse",
    "row_means",
    "temporal",
]
