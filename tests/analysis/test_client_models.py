"""Discriminants and ridges against scikit-learn and plain loops."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from fedjax_het.analysis.discriminants import Discriminants
from fedjax_het.analysis.ridges import Ridges
from fedjax_het.analysis.transfer import PRIOR, halves

CLIENTS, CLASSES = 4, 5


def skewed(seed=0):
    """(z, owner, label): client 3 shares one label with client 0 and one with client 1."""
    rng = np.random.default_rng(seed)
    held = [(0, 1, 2), (0, 1, 2, 3), (1, 2, 3, 4), (2, 4)]
    owner, label = zip(*[(k, c) for k, labels in enumerate(held) for c in labels for _ in range(4 + 3 * c)])
    owner, label = np.array(owner), np.array(label)
    mixed = rng.permutation(len(owner))
    owner, label = owner[mixed], label[mixed]
    return rng.normal(size=(len(owner), 3)) + 1.2 * rng.normal(size=(CLASSES, 3))[label], owner, label


def answers(z, label, fit, allowed):
    """What a discriminant fitted on some rows says of all rows, among the allowed labels."""
    means = {c: z[fit & (label == c)].mean(0) for c in np.unique(label[fit])}
    residual = np.stack([z[r] - means[label[r]] for r in np.flatnonzero(fit)])
    spread = (residual.T @ residual + PRIOR * np.eye(3)) / (fit.sum() - len(means) + PRIOR)
    inverse = np.linalg.inv(spread)
    allowed = sorted(allowed)
    distance = [[(row - means[c]) @ inverse @ (row - means[c]) for c in allowed] for row in z]
    return np.array(allowed)[np.argmin(distance, axis=1)]


def test_discriminants_by_loops():
    z, owner, label = skewed()
    half = halves(owner * CLASSES + label, np.random.default_rng(1))
    common = np.arange(0, len(z), 3)
    order = np.arange(len(z))
    found = Discriminants(owner, label, half, common, CLIENTS, CLASSES).scores(z, order)
    held = [set(label[owner == k]) for k in range(CLIENTS)]

    def said(k, h, allowed):
        return answers(z, label, (owner == k) & (half == h), allowed)

    for i in range(CLIENTS):
        for j in range(CLIENTS):
            both = held[i] & held[j]
            if len(both) < 2:
                assert np.isnan([found.score[i, j], found.gap[i, j], found.disagreement[i, j]]).all()
                continue
            score = {}
            for k in (i, j):
                out = np.where(half == 0, said(k, 1, both), said(k, 0, both))
                score[k] = np.mean([np.mean(out[(owner == j) & (label == c)] == c) for c in both])
            assert found.score[i, j] == pytest.approx(score[i])
            assert found.gap[i, j] == pytest.approx(score[j] - score[i])
            apart = [[np.mean((said(a, 0, both) != said(b, 1, both))[common]) for b in (i, j)] for a in (i, j)]
            excess = (apart[0][1] + apart[1][0] - apart[0][0] - apart[1][1]) / 2
            assert found.disagreement[i, j] == pytest.approx(excess)
    assert np.isnan(found.score).sum() == 4


def test_rows_move_and_labels_stay():
    z, owner, label = skewed()
    half = halves(owner * CLASSES + label, np.random.default_rng(1))
    order = np.random.default_rng(2).permutation(len(z))
    models = Discriminants(owner, label, half, np.arange(5), CLIENTS, CLASSES)
    for a, b in zip(models.scores(z, order), models.scores(z[order], np.arange(len(z)))):
        np.testing.assert_array_equal(a, b)
    targets = z @ np.ones((3, 1))
    moved = Ridges(owner, targets, half, CLIENTS).scores(z, order)
    again = Ridges(owner, targets[order], half, CLIENTS).scores(z[order], np.arange(len(z)))
    for a, b in zip(moved, again):
        np.testing.assert_array_equal(a, b)


def test_ridges_are_those_of_scikit_learn():
    z, owner, _ = skewed()
    rng = np.random.default_rng(3)
    target = z @ rng.normal(size=(3, 2)) + rng.normal(size=(len(z), 2)) * 0.1 + owner[:, None]
    half = halves(owner, rng)
    found = Ridges(owner, target, half, CLIENTS).scores(z, np.arange(len(z)))
    fits = {
        (k, h): Ridge(alpha=PRIOR).fit(z[(owner == k) & (half == h)], target[(owner == k) & (half == h)])
        for k in range(CLIENTS)
        for h in (0, 1)
    }
    score = np.empty((CLIENTS, CLIENTS))
    for i in range(CLIENTS):
        out = np.where((half == 0)[:, None], fits[i, 1].predict(z), fits[i, 0].predict(z))
        error = ((out - target) ** 2).mean(1)
        score[i] = [1 - error[owner == j].mean() for j in range(CLIENTS)]
    np.testing.assert_allclose(found.score, score)
    np.testing.assert_allclose(found.gap, np.diagonal(score) - score)
    said = [[fits[k, h].predict(z) for k in range(CLIENTS)] for h in (0, 1)]
    apart = np.array([[((a - b) ** 2).mean() for b in said[1]] for a in said[0]])
    expected = (apart + apart.T - np.diagonal(apart)[:, None] - np.diagonal(apart)) / 2
    np.testing.assert_allclose(found.disagreement, expected, atol=1e-12)


def test_who_holds_more_of_a_label_answers_it_no_more_often():
    """Two labels that overlap, one client with nine times as many of one: its border is the other's."""
    rng = np.random.default_rng(5)
    label = np.concatenate([np.repeat([0, 1], 900), np.repeat([0, 1], [1620, 180])])
    owner = np.repeat([0, 1], 1800)
    z = rng.normal(size=(3600, 2)) + label[:, None]
    half = halves(owner * 2 + label, rng)
    found = Discriminants(owner, label, half, np.arange(3600), 2, 2).scores(z, np.arange(3600))
    assert abs(found.gap).max() < 0.03 and abs(found.disagreement).max() < 0.03
    assert found.score.min() > 0.7
