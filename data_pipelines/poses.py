"""Random hand poses within the limits of motion, turned every way: what VQ-MANO learns from.

Nothing is stored: pose n of a seed is always the same, and made when it is asked for.
"""

from collections.abc import Callable, Mapping

import grain
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Int

from data_pipelines.loader import share_of_batches
from handjax.hand.mano import load_hand
from handjax.hand.model import HandModel
from handjax.hand.sampling import sample_orientation, sample_pose

POSES = 2**32
"""More than any run sees."""
_HELD_OUT_SEED = 2**32 - 1


def pose_maker(hand: HandModel, seed: int) -> Callable[[Int[np.ndarray, " batch"]], dict[str, np.ndarray]]:
    """Makes poses by their numbers.

    Args:
      hand: whose axes and shape directions are meant.
      seed: of all poses.

    Returns:
      A function of numbers below POSES: pose [batch, 16, 3], axis-angle in radians, the first row any orientation;
      betas [batch, S], normal in standard deviations.
    """
    key, shapes = jax.random.key(seed), hand.shapedirs.shape[-1]

    def example(number):
        pose_key, turn_key, shape_key = jax.random.split(jax.random.fold_in(key, number), 3)
        pose = sample_pose(pose_key, hand).at[0].set(sample_orientation(turn_key))
        return {"pose": pose, "betas": jax.random.normal(shape_key, (shapes,))}

    make = jax.jit(jax.vmap(example))
    return lambda numbers: jax.device_get(make(jnp.asarray(numbers, jnp.uint32)))


def make_loader(
    config: ml_collections.ConfigDict,
    batch_spec: Mapping[str, jax.ShapeDtypeStruct],
    batch_size: int,
    seed: int,
    split: str,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.IterDataset:
    """Makes the endless stream of this process's batches, as `data_pipelines.loader.make_loader`.

    Args:
      config: the recipe's `data` section with `hand_model`, the path of a MANO file or empty for the open hand.
      batch_spec: what the task takes, which is what `pose_maker` makes.
      batch_size: of the global batch.
      seed: of the poses of "train"; those of "eval" are the same for every run.
      split: "train" or "eval".
      process_index: of this process.
      process_count: must divide `batch_size`.

    Raises:
      ConfigError: processes that do not divide the batch.
      WeightsError: the MANO file cannot be read.
    """
    make = pose_maker(load_hand(config.hand_model), seed if split == "train" else _HELD_OUT_SEED)
    numbers = share_of_batches(grain.MapDataset.range(POSES), batch_size, process_index, process_count)
    return numbers.map(make).to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=4))
