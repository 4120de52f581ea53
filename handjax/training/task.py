"""What a training objective must offer to the one train loop."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Shaped, UInt8

PyTree = Any
Batch = Mapping[str, Array | np.ndarray]
Term = tuple[Float[Array, ""], Float[Array, ""]]
Terms = dict[str, Term]
"""Name -> (sum over the examples, weight of the sum). The mean of the whole batch is sum / weight, and it stays
the same when the batch is cut into micro-batches or over devices, because sums and weights are added first."""


def total(values: Shaped[Array, "*any"], counted: Shaped[Array, "*any"] | None = None) -> Term:
    """The term of the mean of values, all of them or those that are counted."""
    if counted is None:
        return values.sum(), jnp.float32(values.size)
    counted = counted.astype(jnp.float32)
    return (values * counted).sum(), counted.sum()


@runtime_checkable
class Task(Protocol):
    """A training objective: a small frozen dataclass with pure methods.

    `loss`, `evaluate` and `preview` are jitted by the loop and may also run on a part of the batch (gradient
    accumulation, pmap): they return sums and weights, never means. `rng` holds one key an example, made from
    (seed, step, global index of the example), so that noise does not depend on the number of devices.
    """

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Factor of each named loss: the objective is sum over names of factor * (sum / weight)."""

    @property
    def exports(self) -> Mapping[str, Callable[[PyTree, PyTree, Path, np.dtype], None]]:
        """What `launch.export --to` offers: name -> function that writes (trainable, state) to a folder in a dtype."""

    def init(self, rng: Key[Array, ""]) -> tuple[PyTree, PyTree]:
        """Returns float32 trainable parameters and the model state (an empty dict when there is none)."""

    def frozen(self) -> PyTree:
        """Returns the weights that never change: own argument of every method, no gradient, never saved."""

    def batch_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns name -> shape and dtype of one example (without the batch axis)."""

    def loss(
        self, trainable: PyTree, frozen: PyTree, state: PyTree, batch: Batch, rng: Key[Array, " batch"]
    ) -> tuple[Terms, PyTree, Terms]:
        """Computes the training losses.

        Returns:
          losses: the named terms of the objective, the same names as `loss_weights`.
          state: the new model state. Micro-batches and devices all start from the same state and their new
            states are averaged, so an update must be linear in means over examples (as moving averages are).
          metrics: further named terms, only logged.
        """

    def evaluate(
        self, trainable: PyTree, frozen: PyTree, state: PyTree, batch: Batch, rng: Key[Array, " batch"]
    ) -> Terms:
        """Measures one held-out batch; `rng` depends on the seed and the example's place only, never on the step,
        so noise and timesteps are the same at every evaluation. Often `return self.loss(...)[0]`.
        """

    def preview(
        self, trainable: PyTree, frozen: PyTree, state: PyTree, batch: Batch, rng: Key[Array, " batch"]
    ) -> dict[str, UInt8[Array, "height width 3"]]:
        """Draws pictures of a held-out batch (inputs, conditions, results), by name; empty when there are none."""


def check_batch(batch: Batch, spec: Mapping[str, jax.ShapeDtypeStruct], batch_size: int) -> None:
    """Checks that a loader keeps the promise of `Task.batch_spec`.

    Raises:
      ValueError: another set of names, or an array of another shape or dtype.
    """
    if batch.keys() != spec.keys():
        raise ValueError(f"the loader yields {sorted(batch)}, the task wants {sorted(spec)}")
    for name, want in spec.items():
        shape, got = (batch_size, *want.shape), batch[name]
        if got.shape != shape or got.dtype != want.dtype:
            raise ValueError(f"batch[{name!r}] is {got.dtype}{got.shape}, the task wants {want.dtype}{shape}")
