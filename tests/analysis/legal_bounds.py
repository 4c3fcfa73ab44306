"""Every bound with constants and a step size that are legal."""

from fedjax_het.analysis import bounds, constants

E, T = 5, 40
BASE = constants.given(
    provenance="exact",
    p=[0.25] * 4,
    L=4.0,
    mu=1.0,
    zeta_star_sq=2.0,
    zeta_bar_sq=3.0,
    gamma_gap=0.5,
    sigma_sq=[0.1, 0.2, 0.3, 0.4],
    sigma_star_sq=[0.1, 0.2, 0.3, 0.4],
    li_G_sq=9.0,
    delta=1.5,
    distance_sq=2.0,
    gap=1.0,
    dissimilarity_G_sq=4.0,
    dissimilarity_B_sq=2.0,
    ratio_B_sq=1.2,
    lower_curvature=0.0,
    coordinate_G=2.0,
    dimension=10.0,
)


def changed(**values):
    return constants.replace(BASE, provenance="exact", **values)


SKEWED = changed(p=[0.1, 0.2, 0.3, 0.4])
FLAT = changed(mu=0.0)
QUIET = changed(sigma_sq=[0.0] * 4)
ALIKE = changed(zeta_star_sq=0.0, delta=0.0)
LI = bounds.li2020.step_sizes(BASE, E)
b = bounds

# name: (bound of (constants, schedule, E, T), constants, a legal schedule, tag)
LEGAL = {
    "li theorem 1": (b.li2020.theorem1, BASE, LI, "S"),
    "li theorem 2": (lambda *a: b.li2020.theorem2(*a, clients=2), BASE, LI, "S"),
    "li theorem 3": (lambda *a: b.li2020.theorem3(*a, clients=2), BASE, LI, "S"),
    "li theorem 4": (b.li2020.theorem4, QUIET, 0.01, "O"),
    "e1": (b.explicit.e1, BASE, 0.01, "D"),
    "e1f": (b.explicit.e1f, BASE, 1 / 120, "D"),
    "e2": (lambda *a: b.explicit.e2(*a, clients=2), BASE, 1 / 320, "D"),
    "e2, scheme II": (lambda *a: b.explicit.e2(*a, clients=2, scheme="II"), BASE, 1 / 320, "D"),
    "khaled 2019": (b.khaled.local_gd, QUIET, 1 / 80, "S"),
    "khaled 2020, identical": (b.khaled.identical, ALIKE, 1 / 16, "M"),
    "khaled 2020": (b.khaled.heterogeneous, BASE, 1 / 128, "M"),
    "yu 2019": (b.yu2019.yu2019, BASE, 1 / 4, "D"),
    "karimireddy": (b.karimireddy.fedavg, BASE, 1 / 480, "O"),
    "karimireddy, convex": (
        lambda *a: b.karimireddy.fedavg(*a, regime="convex", clients=2),
        BASE,
        1 / 480,
        "O",
    ),
    "karimireddy, nonconvex": (lambda *a: b.karimireddy.fedavg(*a, regime="nonconvex"), BASE, 1 / 480, "O"),
    "karimireddy, lower": (b.karimireddy.lower_bound, QUIET, None, "O"),
    "one round": (lambda c, s, e, t: b.karimireddy.one_round(c, s, e, drift=0.1), BASE, 1 / 480, "M"),
    "scaffold": (b.scaffold.scaffold, BASE, 1 / 1620, "O"),
    "scaffold, convex": (lambda *a: b.scaffold.scaffold(*a, regime="convex"), BASE, 1 / 1620, "O"),
    "scaffold, nonconvex": (lambda *a: b.scaffold.scaffold(*a, regime="nonconvex"), BASE, 1 / 1620, "O"),
    "scaffold, quadratics": (b.scaffold.quadratics, BASE, None, "O"),
    "koloskova": (b.koloskova.koloskova, BASE, None, "O"),
    "koloskova, convex": (lambda *a: b.koloskova.koloskova(*a, regime="convex"), BASE, None, "O"),
    "minibatch": (b.woodworth.minibatch, BASE, None, "O"),
    "minibatch, convex": (lambda *a: b.woodworth.minibatch(*a, regime="convex"), BASE, None, "O"),
    "local sgd": (b.woodworth.local_sgd, BASE, None, "O"),
    "local sgd, lower": (b.woodworth.local_sgd_lower, BASE, None, "O"),
    "local sgd, lower, convex": (lambda *a: b.woodworth.local_sgd_lower(*a, regime="convex"), BASE, None, "O"),
    "fedprox": (lambda *a: b.fedprox.fedprox(*a, mu=500.0, clients=20), BASE, None, "M"),
    "fedadagrad": (
        lambda *a: b.fedopt.fedadagrad(*a, server_learning_rate=0.1, adaptivity=0.1),
        BASE,
        1 / 160,
        "O",
    ),
    "equal clients": (b.iid.equal_clients, ALIKE, 1 / 80, "D"),
    "equal curvatures": (b.iid.equal_curvatures, ALIKE, 2 / 5, "D"),
    "tutorial": (b.tutorial.simplified, BASE, 0.1, "X"),
}
ROUNDS = 8 * 3 * 4 * E  # the rounds that karimireddy's strongly convex rate asks for
