import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import least_squares

from handjax.hand.arrowhead import arrowhead_marquardt, arrowhead_step, solve_positive

OWN, SHARED, BLOCKS, BATCH = 3, 4, 5, 6


def test_systems_are_solved_as_numpy_solves_them():
    rng = np.random.default_rng(0)
    half = rng.standard_normal((BATCH, 7, 12))
    matrix, right = half @ half.mT, rng.standard_normal((BATCH, 7, 2))
    found = solve_positive(jnp.asarray(np.moveaxis(matrix, 0, -1)), jnp.asarray(np.moveaxis(right, 0, -1)))
    np.testing.assert_allclose(np.moveaxis(found, -1, 0), np.linalg.solve(matrix, right), rtol=1e-3, atol=1e-4)


def test_a_step_equals_that_of_the_whole_matrix():
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((BATCH, BLOCKS, 9, OWN + SHARED + 1))
    damping = 10.0 ** rng.uniform(-3, 1, BATCH)
    normal = jnp.asarray(np.einsum("bfri,bfrj->ijfb", rows, rows), jnp.float32)
    own, shared = arrowhead_step(normal, OWN, jnp.asarray(damping, jnp.float32))
    for hand in range(BATCH):
        whole = np.zeros((BLOCKS * 9, BLOCKS * OWN + SHARED))
        for block in range(BLOCKS):
            whole[9 * block : 9 * block + 9, OWN * block : OWN * (block + 1)] = rows[hand, block, :, :OWN]
            whole[9 * block : 9 * block + 9, BLOCKS * OWN :] = rows[hand, block, :, OWN:-1]
        square = whole.T @ whole
        damped = square + damping[hand] * np.diag(np.diag(square))
        expected = -np.linalg.solve(damped, whole.T @ rows[hand, :, :, -1].ravel())
        np.testing.assert_allclose(np.asarray(own)[..., hand].T.ravel(), expected[:-SHARED], rtol=2e-3, atol=2e-4)
        np.testing.assert_allclose(shared[:, hand], expected[-SHARED:], rtol=2e-3, atol=2e-4)


TIMES = np.linspace(0.0, 3.0, 8)[:, None]


def curves(own, rate):
    """Curves of a height and a base each, which decay at one common rate: (times, curves)."""
    return own[0] * jnp.exp(-rate * TIMES) + own[1]


def linearize_curves(measured, unknowns):
    def one(own, shared, measured):
        faded = jnp.broadcast_to(jnp.exp(-shared[0] * TIMES), measured.shape)
        errors = curves(own, shared[0]) - measured
        rows = jnp.stack([faded, jnp.ones_like(faded), -TIMES * own[0] * faded, errors], axis=-1)
        return 0.5 * jnp.sum(errors**2), jnp.einsum("tfi,tfj->ijf", rows, rows)

    return jax.vmap(one, in_axes=-1, out_axes=-1)(*unknowns, measured)


def descend(measured, start, iterations):
    def move(unknowns, own, shared):
        return unknowns[0] + own, unknowns[1] + shared

    return arrowhead_marquardt(lambda unknowns: linearize_curves(measured, unknowns), move, start, 2, iterations)


def test_curves_that_share_their_rate_equal_scipy():
    rng = np.random.default_rng(2)
    truth = rng.uniform(0.5, 2.0, (2, 2, 3))
    rates = np.array([0.5, 1.0, 2.0])
    measured = truth[0] * np.exp(-rates * TIMES[..., None]) + truth[1] + 0.05 * rng.standard_normal((8, 2, 3))
    start = jnp.ones((2, 2, 3)), jnp.full((1, 3), 0.7)
    (own, shared), costs = descend(jnp.asarray(measured, jnp.float32), start, 30)
    for problem in range(3):

        def errors(x, problem=problem):
            return np.ravel(x[:2] * np.exp(-x[4] * TIMES) + x[2:4] - measured[..., problem])

        expected = least_squares(errors, [1, 1, 1, 1, 0.7])
        np.testing.assert_allclose(np.asarray(own)[..., problem].ravel(), expected.x[:4], atol=2e-3)
        np.testing.assert_allclose(shared[0, problem], expected.x[4], atol=2e-3)
        np.testing.assert_allclose(costs[problem], expected.cost, rtol=1e-3)


def test_costs_never_rise_and_each_problem_keeps_its_own_damping():
    measured = jnp.asarray(np.random.default_rng(3).uniform(0, 2, (8, 2, 3)), jnp.float32)
    start = jnp.ones((2, 2, 3)), jnp.array([[0.5, -4.0, jnp.nan]])  # a poor start and one that is not a number
    costs = np.stack([descend(measured, start, count)[1] for count in (0, 1, 3, 10, 30)])
    assert (np.diff(costs[:, :2], axis=0) <= 0).all()
    assert np.isinf(costs[:, 2]).all()
    alone = descend(measured[..., :1], jax.tree.map(lambda leaf: leaf[..., :1], start), 30)[1]
    np.testing.assert_allclose(costs[-1, 0], alone[0], rtol=1e-5)
