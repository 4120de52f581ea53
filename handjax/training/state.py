"""Everything that changes during training, in one pytree."""

from collections.abc import Callable

import chex
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, Key, UInt32

from handjax.training.guard import Health
from handjax.training.task import PyTree, Task

# Independent streams of random numbers under one seed.
_INIT_STREAM, _HELD_OUT_STREAM, _FIRST_STEP_STREAM = range(3)


class TrainState(flax.struct.PyTreeNode):
    """What a checkpoint holds and a step replaces; nothing else survives a restart.

    Attributes:
      step: number of completed steps, int32 [].
      params: trainable parameters, float32.
      opt_state: optimiser state.
      ema: exponential moving average of `params`, or None.
      model_state: what the task changes without gradients.
      health: what the guard against bad steps remembers.
      seed: uint32 [].

    Fields have no array types, because tree functions also make states of shapes and of shardings.
    """

    step: PyTree
    params: PyTree
    opt_state: PyTree
    ema: PyTree
    model_state: PyTree
    health: PyTree
    seed: PyTree

    @property
    def best_params(self) -> PyTree:
        """The parameters to evaluate and export: the moving average where there is one."""
        return self.params if self.ema is None else self.ema


def create_state(
    task: Task,
    tx: optax.GradientTransformation,
    seed: int,
    *,
    with_ema: bool,
    constrain: Callable[[PyTree], PyTree] = lambda tree: tree,
) -> TrainState:
    """Makes the state before the first step.

    Args:
      task: gives parameters and model state.
      tx: optimiser, initialised on the trainable parameters only.
      seed: of the initial parameters and of all noise during training.
      with_ema: whether to keep a moving average of the parameters.
      constrain: cuts the state over the devices; the parameters first, so that no device ever holds all moments.

    Returns:
      The state at step 0.
    """
    params, model_state = task.init(jax.random.fold_in(jax.random.key(seed), _INIT_STREAM))
    # The step reuses the memory of the state, so it must not be shared with frozen weights.
    params, model_state = jax.tree.map(jnp.copy, (params, model_state))
    for leaf in jax.tree.leaves(params):
        chex.assert_type(leaf, jnp.float32)
    params = constrain(params)
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=tx.init(params),  # not jitted: it would make whole moments of cut parameters
        ema=jax.tree.map(jnp.copy, params) if with_ema else None,
        model_state=model_state,
        health=Health.start(),
        seed=jnp.asarray(seed, jnp.uint32),
    )
    return constrain(state)


def step_keys(seed: UInt32[Array, ""], step: Int[Array, ""], index: Int[Array, " batch"]) -> Key[Array, " batch"]:
    """Makes the noise keys of one training step, the same at any number of devices and micro-batches.

    Args:
      seed: of the run.
      step: number of completed steps.
      index: place of each example in the global batch.

    Returns:
      One typed key an example.
    """
    return _example_keys(seed, step + _FIRST_STEP_STREAM, index)


def held_out_keys(seed: UInt32[Array, ""], index: Int[Array, " batch"]) -> Key[Array, " batch"]:
    """Makes one key a held-out example, the same at every step of the run; arguments as `step_keys`."""
    return _example_keys(seed, _HELD_OUT_STREAM, index)


def _example_keys(seed, stream, index):
    key = jax.random.fold_in(jax.random.key(seed), stream)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index)
