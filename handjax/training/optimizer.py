"""The optimiser a recipe's `optim` section describes."""

import ml_collections
import optax

from handjax.errors import ConfigError


def make_optimizer(optim: ml_collections.ConfigDict, steps: int) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """Makes AdamW with a learning-rate schedule and clipping by global norm.

    Args:
      optim: `lr`, `schedule` ("constant" or "cosine"), `warmup_steps` (linear from 0), `weight_decay`, `b1`, `b2`,
        `eps`, `clip_norm` (0: none).
      steps: length of the run, where the cosine reaches 0.

    Returns:
      The optimiser, and the schedule: completed steps -> learning rate.

    Raises:
      ConfigError: unknown schedule.
      Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization (AdamW).
    """
    schedule = _make_schedule(optim, steps)
    adamw = optax.adamw(schedule, optim.b1, optim.b2, optim.eps, weight_decay=optim.weight_decay)
    clip = optax.clip_by_global_norm(optim.clip_norm) if optim.clip_norm else optax.identity()
    return optax.chain(clip, adamw), schedule


def _make_schedule(optim: ml_collections.ConfigDict, steps: int) -> optax.Schedule:
    if optim.schedule == "cosine":
        main = optax.cosine_decay_schedule(optim.lr, max(steps - optim.warmup_steps, 1))
    elif optim.schedule == "constant":
        main = optax.constant_schedule(optim.lr)
    else:
        raise ConfigError(f"optim.schedule={optim.schedule!r} is unknown; use 'constant' or 'cosine'")
    if not optim.warmup_steps:
        return main
    warmup = optax.linear_schedule(0.0, optim.lr, optim.warmup_steps)
    return optax.join_schedules([warmup, main], [optim.warmup_steps])
