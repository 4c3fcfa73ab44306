"""Covariances of tasks: the learned one minimises its penalty, the given ones are what they say."""

import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_het.algorithms import task_covariance


@pytest.mark.usefixtures("x64")
def test_its_step_is_the_minimiser_of_its_penalty():
    """tr(W Sigma^-1 W') is |W|_*^2 there, and larger at every other covariance of trace 1."""
    rng = np.random.default_rng(0)
    models = rng.normal(size=(4, 7))
    sigma = np.asarray(task_covariance.learned(jnp.asarray(models), jnp.asarray(1e-12)))

    def penalty(matrix):
        return np.trace(models.T @ np.linalg.inv(matrix) @ models)

    best = np.linalg.svd(models, compute_uv=False).sum() ** 2
    np.testing.assert_allclose(penalty(sigma), best, 1e-9)
    for scale in (1e-3, 0.1, 1.0):
        other = sigma + scale * np.cov(rng.normal(size=(4, 9)))
        assert penalty(other / np.trace(other)) > best
    gram = models @ models.T
    assert penalty(gram / np.trace(gram)) > 1.05 * best, "the unnormalised W'W of the textbooks is no minimiser"


def test_more_tasks_than_features_leave_no_noise_in_the_relation():
    """In single precision zero eigenvalues of W'W are noise of 1e-7, whose roots are 3e-4 of the largest."""
    models = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    sigma = np.asarray(task_covariance.learned(jnp.asarray(models), jnp.float32(1e-12)), np.float64)
    values = np.linalg.eigvalsh(sigma)
    assert abs(np.trace(sigma) - 1) < 1e-6 and np.abs(values[:9]).max() < 1e-6 < values[9]
    idle = task_covariance.learned(jnp.zeros((3, 2)), jnp.float32(1e-7))
    np.testing.assert_allclose(idle, np.eye(3) / 3, 1e-6)


def test_priors_are_covariances_of_trace_one():
    made = {
        "independent": task_covariance.independent(4),
        "mean": task_covariance.mean_regularised(4, ridge=0.1),
        "clusters": task_covariance.clustered([0, 1, 0, 1], ridge=0.1),
        "graph": task_covariance.laplacian([[9, 1, 0, 0], [1, 0, 2, 0], [0, 2, 0, 0], [0, 0, 0, 0]], ridge=0.1),
    }
    for name, sigma in made.items():
        assert np.linalg.eigvalsh(np.asarray(sigma)).min() > 0, name
        np.testing.assert_allclose(np.trace(sigma), 1, 1e-6)
    mean, clusters, graph = (np.asarray(made[name]) for name in ("mean", "clusters", "graph"))
    assert np.allclose(mean - np.diag(np.diag(mean)), mean[0, 1] * (1 - np.eye(4))) and mean[0, 1] > 0
    assert clusters[0, 2] > 0.01 and abs(clusters[0, 1]) < 1e-7
    assert graph[1, 2] > graph[0, 1] > graph[0, 2] > 0 and abs(graph[3, :3]).max() < 1e-7
