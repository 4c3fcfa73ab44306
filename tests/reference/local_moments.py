"""E F, E|w - w*|^2 and E|g|^2 of FedAvg on noisy quadratics, step by step, in plain NumPy: no samples drawn.

Given the round's start w, of mean m and covariance C, client k's iterate is affine in it with noise of its own:
mean m_k, covariance Phi_k C Phi_k' + N_k, and Phi_k C Phi_l' across clients.
"""

import numpy as np


def follow(A, a, p, noise, start, rates, local_steps, *, scheme="full", clients=None):
    """Moments of a run.

    Args:
        A: [N, d, d].
        a: minimisers [N, d].
        p: [N].
        noise: covariance of a local gradient [N, d, d].
        start: [d].
        rates: eta_s [T].
        local_steps: E.
        scheme: "full"; "I", K draws by p whose runs are reused; "II", K without replacement, equal p.
        clients: K.

    Returns:
        gap and distance after each round [R + 1]; mean_gap, mean_slope of wbar_s [T]; mean [T, d] of wbar_s;
        largest, max_k,s E|g_k,s|^2; optimum; drift, sum_k p_k E|w_k,s - w|^2 from the round's start [T].
    """
    count, d = a.shape
    H = np.tensordot(p, A, 1)
    best = np.linalg.solve(H, np.einsum("k,kij,kj->i", p, A, a))
    m, C = np.array(start, float), np.zeros((d, d))
    told = {name: [] for name in ("gap", "distance", "mean_gap", "mean_slope", "mean", "drift")}
    largest = 0.0
    eye = np.eye(d)

    def second(mean, covariance):
        return covariance + np.outer(mean - best, mean - best)

    told["gap"].append(0.5 * np.sum(H * second(m, C)))
    told["distance"].append(np.trace(second(m, C)))
    for r in range(len(rates) // local_steps):
        own, Phi, N = np.tile(m, (count, 1)), np.tile(eye, (count, 1, 1)), np.zeros((count, d, d))
        for eta in rates[r * local_steps : (r + 1) * local_steps]:
            M, mean = np.tensordot(p, Phi, 1), p @ own
            spread = second(mean, M @ C @ M.T + np.tensordot(p**2, N, 1))
            told["mean"].append(mean)
            told["mean_gap"].append(0.5 * np.sum(H * spread))
            told["mean_slope"].append(np.sum((H @ H) * spread))
            moved = Phi - eye
            away = np.trace(moved @ C @ moved.swapaxes(1, 2) + N, axis1=1, axis2=2)
            told["drift"].append(p @ (np.sum((own - m) ** 2, axis=1) + away))
            g = (A @ (own - a)[..., None])[..., 0]
            there = A @ (Phi @ C @ Phi.swapaxes(1, 2) + N) @ A + noise
            largest = max(largest, np.max(np.sum(g**2, axis=1) + np.trace(there, axis1=1, axis2=2)))
            step = eye - eta * A
            own, Phi = own - eta * g, step @ Phi
            N = step @ N @ step + eta**2 * noise
        M, mean = np.tensordot(p, Phi, 1), p @ own
        within = M @ C @ M.T
        single, squared = np.tensordot(p, N, 1), np.tensordot(p**2, N, 1)
        apart = own - mean
        bracket = np.einsum("k,ki,kj->ij", p, apart, apart) - within
        bracket = bracket + np.tensordot(p, Phi @ C @ Phi.swapaxes(1, 2), 1)
        if scheme == "full":
            C = within + squared
        elif scheme == "I":
            C = within + bracket / clients + (1 - 1 / clients) * squared + single / clients
        else:
            C = within + (count - clients) / (count - 1) / clients * bracket + single / clients
        m = mean
        told["gap"].append(0.5 * np.sum(H * second(m, C)))
        told["distance"].append(np.trace(second(m, C)))
    return {name: np.array(values) for name, values in told.items()} | {
        "largest": largest,
        "optimum": best,
        "H": H,
    }
