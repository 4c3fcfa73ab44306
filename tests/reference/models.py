"""Losses and gradients by hand, float64. Params are dicts: name -> array."""

import numpy as np


def _probabilities(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def _cross_entropy(logits, y):
    return float(np.mean([-np.log(_probabilities(logits[i : i + 1])[0, y[i]]) for i in range(len(y))]))


def _error(logits, y):
    """d loss / d logits of the mean cross-entropy."""
    error = _probabilities(logits)
    for i, label in enumerate(y):
        error[i, label] -= 1
    return error / len(y)


class Softmax:
    """Multinomial logistic regression: kernel [d, K], bias [K]."""

    @staticmethod
    def loss(params, x, y):
        return _cross_entropy(x @ params["kernel"] + params["bias"], y)

    @staticmethod
    def gradient(params, x, y):
        error = _error(x @ params["kernel"] + params["bias"], y)
        return {"kernel": x.T @ error, "bias": error.sum(axis=0)}


class TanhNetwork:
    """One hidden layer of tanh units: in_kernel [d, h], in_bias [h], out_kernel [h, K], out_bias [K]."""

    @staticmethod
    def loss(params, x, y):
        hidden = np.tanh(x @ params["in_kernel"] + params["in_bias"])
        return _cross_entropy(hidden @ params["out_kernel"] + params["out_bias"], y)

    @staticmethod
    def gradient(params, x, y):
        hidden = np.tanh(x @ params["in_kernel"] + params["in_bias"])
        error = _error(hidden @ params["out_kernel"] + params["out_bias"], y)
        back = (error @ params["out_kernel"].T) * (1 - hidden**2)
        return {
            "in_kernel": x.T @ back,
            "in_bias": back.sum(axis=0),
            "out_kernel": hidden.T @ error,
            "out_bias": error.sum(axis=0),
        }
