"""FedDyn as its paper prints it, one client and one step at a time; and its exact form on quadratics.

Common arguments: see `reference.methods`.
"""

import numpy as np


def feddyn(
    model, start, x, y, held, batches, cohorts, *, rate, alpha, momentum=0.0, weights="uniform", done=None
):
    """(w, h, [lambda_k], {"cohort", "all", "broadcast": the models that may be served}) after the rounds.

    Args:
        weights: "uniform", "proportional" (p_k in h and in the means) or "scaled_alpha" (alpha_k, everything
            else uniform).
        done: [round][client] -> steps that the client takes of its batches; all of them if None.
    """
    names, count, rows = list(start), len(held), sum(len(own) for own in held)
    zero = {name: np.zeros_like(start[name]) for name in names}
    w, h, dual = start, zero, [zero] * count
    last, mean = [start] * count, start
    members = [k for k in range(count) if len(held[k]) > 0]

    def part(k):
        return len(held[k]) / rows if weights == "proportional" else 1 / count

    for t, cohort in enumerate(cohorts):
        present = [k for k in cohort if len(held[k]) > 0]
        for k in present:
            a = alpha * rows / (count * len(held[k])) if weights == "scaled_alpha" else alpha
            theta, velocity = w, zero
            for which in batches[t][k] if done is None else batches[t][k][: done[t][k]]:
                slope = model.gradient(theta, x[which], y[which])
                full = {n: slope[n] - dual[k][n] + a * (theta[n] - w[n]) for n in names}
                velocity = {n: momentum * velocity[n] + full[n] for n in names}
                theta = {n: theta[n] - rate * velocity[n] for n in names}
            last[k] = theta
            dual[k] = {n: dual[k][n] - a * (theta[n] - w[n]) for n in names}
        if not present:
            continue
        say = [len(held[k]) if weights == "proportional" else 1 for k in present]
        mean = {n: sum(s * last[k][n] for s, k in zip(say, present)) / sum(say) for n in names}
        h = {n: h[n] - alpha * sum(part(k) * (last[k][n] - w[n]) for k in present) for n in names}
        w = {n: mean[n] - h[n] / alpha for n in names}
    shares = [len(held[k]) if weights == "proportional" else 1 for k in members]
    everyone = {n: sum(s * last[k][n] for s, k in zip(shares, members)) / sum(shares) for n in names}
    return w, h, dual, {"cohort": mean, "all": everyone, "broadcast": w}


class Exact:
    """The exact method on F_k(w) = 1/2 w'A_k w - b_k'w with weights p and everyone present.

    Attributes:
        optimum: w*.
        gradients: grad F_k(w*) [N, d].
    """

    def __init__(self, A, b, weights, alpha):
        self.A, self.b, self.p, self.alpha = A, b, np.asarray(weights), alpha
        self.optimum = np.linalg.solve(np.tensordot(self.p, A, 1), self.p @ b)
        self.gradients = A @ self.optimum - b

    def round(self, w, dual):
        """(w, [lambda_k]) after a round, h = sum p lambda throughout."""
        held = self.A + self.alpha * np.eye(len(w))
        theta = np.array([np.linalg.solve(H, b + g + self.alpha * w) for H, b, g in zip(held, self.b, dual)])
        dual = dual - self.alpha * (theta - w)
        return self.p @ theta - self.p @ dual / self.alpha, dual

    def splitting(self, w, dual):
        """z_k = (lambda_k - lambda_k*) + alpha (w - w*), the variable of Douglas-Rachford [N, d]."""
        return (dual - self.gradients) + self.alpha * (w - self.optimum)

    def reflected(self, z):
        """z+ = 1/2 (I + (2 Pi - I) R) z, R_k = (alpha - A_k)(alpha + A_k)^-1, Pi the p-average."""
        identity = self.alpha * np.eye(z.shape[1])
        turned = np.array([(identity - A) @ np.linalg.solve(identity + A, v) for A, v in zip(self.A, z)])
        return (z + 2 * (self.p @ turned)[None] - turned) / 2
