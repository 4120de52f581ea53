"""Steps that would spoil a run are left out: losses that are no numbers, and those far above the usual."""

import dataclasses
from collections.abc import Mapping

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from handjax.errors import DivergedError
from handjax.training.task import PyTree

DECAY = 0.99
"""Of the moving average of the loss: it remembers about a hundred steps."""
SETTLING_STEPS = 100
"""Kept steps before a loss can be called a spike."""


class Health(flax.struct.PyTreeNode):
    """What the guard remembers of a run; a part of the train state.

    Attributes:
      skipped: steps left out so far, int32 [].
      in_a_row: those since the last one kept, int32 [].
      kept: steps kept, int32 [].
      average: moving average of the kept losses, from zero, float32 [].

    Fields have no array types, because tree functions also make states of shapes and of shardings.
    """

    skipped: PyTree
    in_a_row: PyTree
    kept: PyTree
    average: PyTree

    @classmethod
    def start(cls) -> "Health":
        """Before the first step."""
        none = jnp.zeros((), jnp.int32)
        return cls(skipped=none, in_a_row=jnp.copy(none), kept=jnp.copy(none), average=jnp.zeros((), jnp.float32))


@dataclasses.dataclass(frozen=True)
class Guard:
    """Decides about each step.

    Args:
      spike: a loss above this many times its moving average, if that is positive, is left out; 0 never does.
    """

    spike: float = 0.0

    def judge(
        self, health: Health, loss: Float[Array, ""], grad_norm: Float[Array, ""]
    ) -> tuple[Bool[Array, ""], Health]:
        """Returns whether the step is kept, and what is remembered after it."""
        keep = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        if self.spike:
            usual = health.average / (1 - DECAY ** jnp.maximum(health.kept, 1).astype(jnp.float32))
            keep &= (health.kept < SETTLING_STEPS) | (usual <= 0) | (loss <= self.spike * usual)
        average = DECAY * health.average + (1 - DECAY) * loss
        kept = health.replace(in_a_row=jnp.zeros_like(health.in_a_row), kept=health.kept + 1, average=average)
        left_out = health.replace(skipped=health.skipped + 1, in_a_row=health.in_a_row + 1)
        return keep, choose(keep, kept, left_out)


FINITE_ONLY = Guard()
"""Leaves out only what is no number."""


def choose(keep: Bool[Array, ""], new: PyTree, old: PyTree) -> PyTree:
    """Returns `new` where the step is kept, else `old`; the bits are one tree's or the other's."""
    return jax.tree.map(lambda left, right: jnp.where(keep, left, right), new, old)


def stop_if_diverged(stop_after: int, step: int, values: Mapping[str, Shaped[Array, ""]]) -> None:
    """Looks at the report of a step, waiting for it.

    Raises:
      DivergedError: with this one, `stop_after` steps in a row were left out.
    """
    skipped = int(values["skipped_in_a_row"])
    if skipped >= stop_after:
        raise DivergedError(
            f"steps {step - skipped + 1} to {step} were left out, because the loss or gradient was no number or the "
            f"loss a spike (it was {float(values['loss']):.4g}); the weights are as before: look at the data, raise "
            "guard.stop_after, or begin a new run with --config.init_from of this one and a lower optim.lr"
        )
