import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import least_squares

from handjax.hand.least_squares import levenberg_marquardt


def test_a_linear_problem_equals_lstsq():
    matrix = jax.random.normal(jax.random.key(0), (12, 5))
    target = jax.random.normal(jax.random.key(1), (12,))
    solution, cost = levenberg_marquardt(lambda x: matrix @ x - target, jnp.zeros(5), 8)
    expected, square, *_ = np.linalg.lstsq(np.asarray(matrix), np.asarray(target))
    np.testing.assert_allclose(solution, expected, atol=1e-4)
    np.testing.assert_allclose(cost, square[0] / 2, rtol=1e-4)


def test_a_curved_valley_equals_scipy():
    def rosenbrock(x):
        return jnp.stack([10 * (x[1] - x[0] ** 2), 1 - x[0], 0.1 * jnp.sin(x[2]) + 0.3 * x[2] - 0.4])

    start = np.array([-1.2, 1.0, 2.0])
    expected = least_squares(lambda x: np.asarray(rosenbrock(jnp.asarray(x, jnp.float32))), start, diff_step=1e-3)
    solution, _ = levenberg_marquardt(rosenbrock, jnp.asarray(start, jnp.float32), 60)
    np.testing.assert_allclose(solution, expected.x, atol=2e-3)


def test_cost_never_rises_and_survives_steps_that_are_not_numbers():
    def residuals(x):
        return jnp.stack([jnp.sqrt(x[0]) - 0.1, x[1]])  # not a number below zero

    start = jnp.array([4.0, 1.0])
    costs = [float(levenberg_marquardt(residuals, start, n)[1]) for n in (0, 1, 2, 5, 20)]
    assert all(later <= earlier for earlier, later in zip(costs, costs[1:], strict=False))
    np.testing.assert_allclose(costs[0], 0.5 * (1.9**2 + 1), rtol=1e-6)
    assert costs[-1] < 1e-4
