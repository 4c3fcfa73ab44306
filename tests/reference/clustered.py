"""The clustered methods one client and one step at a time, float64; cuts of a graph by trying all of them.

Common arguments: see `reference.methods`. `cohorts[t]` are the clients that answer in round t.
"""

import itertools

import numpy as np

from reference.batches import recorded
from reference.methods import _descend, _weighted_mean, _with_rows


def flat(params, order):
    return np.concatenate([params[name].ravel() for name in order])


def cosine(a, b):
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def cosines(vectors):
    return np.array([[cosine(a, b) for b in vectors] for a in vectors])


def across(similarity, part, rest):
    return max(similarity[i][j] for i in part for j in rest)


def best_cut(similarity):
    """(the smaller part, the largest similarity across) of the best of all cuts of 0..n-1."""
    everyone = range(len(similarity))
    found = None
    for size in range(1, len(similarity) // 2 + 1):
        for part in itertools.combinations(everyone, size):
            value = across(similarity, part, [k for k in everyone if k not in part])
            if found is None or value < found[1]:
                found = (list(part), value)
    return found


def complete_linkage(similarity):
    """(one part, the largest similarity across): merge by the smallest similarity until two parts are left."""
    parts = [[k] for k in range(len(similarity))]
    while len(parts) > 2:
        pairs = itertools.combinations(range(len(parts)), 2)
        a, b = max(pairs, key=lambda p: min(similarity[i][j] for i in parts[p[0]] for j in parts[p[1]]))
        parts = [part for c, part in enumerate(parts) if c not in (a, b)] + [parts[a] + parts[b]]
    return sorted(min(parts, key=len)), across(similarity, *parts)


def ifca(
    model, starts, x, y, held, batches, cohorts, *, rate, average, weights, shared=(), groups=None, warm_up=0
):
    """IFCA: (centres, last choice of each client or -1, rounds each centre was idle).

    Args:
        starts: one params for each cluster; leaves named in `shared` come from the first.
        average: "models" or "gradients" (full batches, all participants in the denominator).
        weights: "uniform" or "proportional".
        groups: the cluster that each client trains in the first `warm_up` rounds.
    """
    names = list(starts[0])
    centres = [{n: starts[0][n] if n in shared else start[n] for n in names} for start in starts]
    choices, idle = [-1] * len(held), [0] * len(centres)
    for t, cohort in enumerate(cohorts):
        there, moves = _with_rows(cohort, held), []
        for k in there:
            losses = [model.loss(centre, x[held[k]], y[held[k]]) for centre in centres]
            j = choices[k] = groups[k] if t < warm_up else int(np.argmin(losses))
            if average == "gradients":
                slope = model.gradient(centres[j], x[held[k]], y[held[k]])
                move = {n: -rate * slope[n] for n in names}
            else:
                end = _descend(model, centres[j], x, y, batches[t][k], rate)
                move = {n: end[n] - centres[j][n] for n in names}
            moves.append((j, 1 if weights == "uniform" else len(held[k]), move))
        everyone = sum(w for _, w, _ in moves)
        before = centres
        centres = []
        for j, centre in enumerate(before):
            mine = [(w, move) for i, w, move in moves if i == j]
            whole = everyone if average == "gradients" else sum(w for w, _ in mine)
            idle[j] = 0 if mine else idle[j] + 1
            new = {}
            for n in names:
                if n in shared:
                    new[n] = centre[n] + sum(w * move[n] for _, w, move in moves) / everyone
                else:
                    new[n] = centre[n] + (sum(w * move[n] for w, move in mine) / whole if mine else 0)
            centres.append(new)
    return centres, choices, idle


def cfl(
    model,
    start,
    x,
    y,
    held,
    batches,
    cohorts,
    *,
    rate,
    eps1,
    eps2,
    gamma=0.0,
    gap=0.0,
    memory=0.0,
    relative=False,
    linkage="single",
    weights="proportional",
    warm_up=0,
    most=8,
):
    """CFL: (models, label of each client, splits as dicts in the order in which they happened)."""
    names, models, label, splits = list(start), [start], [0] * len(held), []
    early, recent = None, {}
    for t, cohort in enumerate(cohorts):
        there = _with_rows(cohort, held)
        updates = {}
        for k in there:
            end = _descend(model, models[label[k]], x, y, batches[t][k], rate)
            updates[k] = {n: end[n] - models[label[k]][n] for n in names}
        if early is None:
            early = max(np.linalg.norm(flat(update, names)) for update in updates.values())
        for k, update in updates.items():
            latest = flat(update, names)
            recent[k] = (
                memory * recent[k] + (1 - memory) * latest if k in recent and recent[k].any() else latest
            )
        for c in range(len(models)):
            members = [k for k in there if label[k] == c]
            if not members:
                continue
            sizes = [1 if weights == "uniform" else len(held[k]) for k in members]
            mean = _weighted_mean([updates[k] for k in members], sizes)
            vectors = {k: recent[k] for k in members}
            lengths = {k: np.linalg.norm(vectors[k]) for k in members}
            told = [k for k in members if lengths[k] > 0]
            longest = max(lengths.values())
            centre = sum(size * vectors[k] for size, k in zip(sizes, members)) / sum(sizes)
            still = np.linalg.norm(centre) < (eps1 * longest if relative else eps1)
            missing = any(label[k] == c and len(held[k]) and k not in there for k in range(len(held)))
            if (
                still
                and longest > (0.5 * early if eps2 is None else eps2)
                and len(told) > 2
                and not missing
                and t >= warm_up
                and len(models) < most
            ):
                similarity = cosines([vectors[k] for k in told])
                part, cross = (best_cut if linkage == "single" else complete_linkage)(similarity)
                apart = similarity - 2 * np.eye(len(told))
                clear = gap == 0 or min(max(row) for row in apart) - cross >= gap
                if clear and gamma < np.sqrt((1 - cross) / 2):
                    leave = [told[i] for i in part]
                    if 2 * len(leave) == len(told) and told[0] in leave:
                        leave = [k for k in told if k not in leave]
                    splits.append(
                        {
                            "origin": c,
                            "round": t,
                            "cross": cross,
                            "model": models[c],
                            "leave": leave,
                            "told": told,
                        }
                    )
                    for k in leave:
                        label[k] = len(models)
                    models.append(models[c])
                    continue
            models[c] = {n: models[c][n] + mean[n] for n in names}
    return models, label, splits


def leader_clusters(units, threshold, most, sweeps):
    """Labels of unit vectors given in the order in which they come."""
    clusters = []
    for k, unit in enumerate(units):
        near = [cosine(unit, sum(units[j] for j in members)) for members in clusters]
        if clusters and (max(near) >= threshold or len(clusters) == most):
            clusters[int(np.argmax(near))].append(k)
        else:
            clusters.append([k])
    for _ in range(sweeps):
        sums = [sum(units[j] for j in members) if members else None for members in clusters]
        new = [[] for _ in clusters]
        for k, unit in enumerate(units):
            near = [-np.inf if total is None else cosine(unit, total) for total in sums]
            new[int(np.argmax(near))].append(k)
        clusters = new
    label = [0] * len(units)
    for c, members in enumerate(clusters):
        for k in members:
            label[k] = c
    return label


def directions(updates, centre):
    """Unit vectors, less their mean, turned to unit length again; and that mean."""
    units = [update / np.linalg.norm(update) for update in updates]
    mean = sum(units) / len(units) if centre else np.zeros_like(units[0])
    return [(unit - mean) / np.linalg.norm(unit - mean) for unit in units], mean


def cosine_cfl(
    model,
    start,
    x,
    y,
    held,
    batches,
    cohorts,
    *,
    rate,
    clusters,
    threshold,
    hysteresis,
    warm_up,
    every,
    sweeps,
    centre=True,
):
    """Threshold clustering: (models, labels, who has been placed); clients without rows are never placed."""
    names, count = list(start), len(held)
    models, label, placed = [start] * clusters, [0] * count, [False] * count
    surveyed = False
    for t, cohort in enumerate(cohorts):
        there = _with_rows(cohort, held)
        survey = clusters > 1 and t >= warm_up and (not surveyed or (t - warm_up) % every == 0)
        rows = sum(len(own) for own in held)
        mixed = {n: sum(len(held[k]) * models[label[k]][n] for k in range(count)) / rows for n in names}
        if not survey:
            ends = {k: _descend(model, models[label[k]], x, y, batches[t][k], rate) for k in there}
            for c in range(clusters):
                mine = [k for k in there if label[k] == c]
                if mine:
                    models[c] = _weighted_mean([ends[k] for k in mine], [len(held[k]) for k in mine])
            continue
        if not surveyed:
            models = [mixed] * clusters
        surveyed = True
        ends = {k: _descend(model, mixed, x, y, batches[t][k], rate) for k in there}
        units, _ = directions([flat(ends[k], names) - flat(mixed, names) for k in there], centre)
        if not any(placed):
            found = leader_clusters(units, threshold, clusters, sweeps)
            held_by = [found.count(c) for c in range(clusters)]
            label = [int(np.argmax(held_by))] * count
            for k, c in zip(there, found):
                label[k] = c
        else:
            sums = [
                sum(
                    (unit for k, unit in zip(there, units) if placed[k] and label[k] == c),
                    np.zeros(len(units[0])),
                )
                for c in range(clusters)
            ]
            moves = {}
            for k, unit in zip(there, units):
                near = [cosine(unit, total) if total.any() else -np.inf for total in sums]
                if not placed[k] or max(near) > near[label[k]] + hysteresis:
                    moves[k] = int(np.argmax(near))
            for k, c in moves.items():
                label[k] = c
        for k in there:
            placed[k] = True
    return models, label, placed


def more_batches(setting, rounds):
    """The batches of the rounds that follow those which a setting has recorded."""
    before = len(setting.batches)
    return recorded(setting.solver().plan, setting.federation, setting.key, before + rounds)[before:]
