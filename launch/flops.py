"""The operations of a recipe's train step."""

from ml_collections import FrozenConfigDict

from handjax.diffusion.attention import plain_attention_everywhere
from handjax.training import ahead
from handjax.training.task import Task


def count_flops(config: FrozenConfigDict, task: Task, *, recomputed: bool = False) -> float:
    """Returns the operations of one step on the whole batch, by the compiler's count.

    Args:
      config: the recipe.
      task: its task.
      recomputed: also what `parallel.remat` computes again; without it they are those of the paper's arithmetic.
    """
    with plain_attention_everywhere():
        return ahead.count_flops(config, task, recomputed=recomputed)
