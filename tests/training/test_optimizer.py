"""AdamW and its schedules against the published update rule."""

import jax.numpy as jnp
import numpy as np
import pytest

from handjax.errors import ConfigError
from handjax.training.config import default_config
from handjax.training.optimizer import make_optimizer


def _optim(**fields):
    optim = default_config().optim
    optim.update(fields)
    return optim


def test_two_updates_follow_adamw_with_clipping():
    lr, decay, b1, b2, eps, clip = 0.1, 0.01, 0.9, 0.99, 1e-8, 1.0
    tx, _ = make_optimizer(_optim(lr=lr, weight_decay=decay, b1=b1, b2=b2, eps=eps, clip_norm=clip), steps=10)
    w = np.array([0.5, -2.0])
    state, params = tx.init(jnp.asarray(w)), jnp.asarray(w)
    m = v = np.zeros(2)
    for t, gradient in enumerate((np.array([3.0, 4.0]), np.array([0.1, -0.2])), start=1):
        updates, state = tx.update(jnp.asarray(gradient), state, params)
        params = params + updates
        clipped = gradient * min(1, clip / np.linalg.norm(gradient))
        m, v = b1 * m + (1 - b1) * clipped, b2 * v + (1 - b2) * clipped**2
        w = w - lr * (m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps) + decay * w)
    np.testing.assert_allclose(params, w, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"schedule": "constant"}, {0: 1, 50: 1, 100: 1}),
        ({"schedule": "constant", "warmup_steps": 10}, {0: 0, 5: 0.5, 10: 1, 100: 1}),
        ({"schedule": "cosine"}, {0: 1, 50: 0.5, 100: 0}),
        ({"schedule": "cosine", "warmup_steps": 20}, {10: 0.5, 20: 1, 60: 0.5, 100: 0}),
    ],
)
def test_schedules(fields, expected):
    _, schedule = make_optimizer(_optim(lr=1.0, **fields), steps=100)
    for step, lr in expected.items():
        assert float(schedule(step)) == pytest.approx(lr, abs=1e-6)


def test_unknown_schedule():
    with pytest.raises(ConfigError, match="'linear' is unknown"):
        make_optimizer(_optim(schedule="linear"), steps=1)
