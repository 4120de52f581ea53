"""What happens in each layer: the size of its weights, of their gradient and of their change."""

from collections import defaultdict

import jax
import optax
from jaxtyping import Array, Float

from handjax.training.task import PyTree


def layer_stats(params: PyTree, grads: PyTree, updates: PyTree) -> dict[str, Float[Array, ""]]:
    """Returns "layers/PATH/NAME" -> Euclidean norm over all arrays of a layer.

    Args:
      params: before the step.
      grads: before clipping.
      updates: what is added to the parameters.

    Returns:
      For each layer, which is all arrays under one module: "params", "grads" and "updates"; the last ÷ the first
      is the share by which a step changes the layer.
    """
    norms = {}
    for name, tree in (("params", params), ("grads", grads), ("updates", updates)):
        for layer, leaves in _by_layer(tree).items():
            norms[f"layers/{layer}/{name}"] = optax.global_norm(leaves)
    return norms


def _by_layer(tree: PyTree) -> dict[str, list[PyTree]]:
    layers: dict[str, list[PyTree]] = defaultdict(list)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        layers[jax.tree_util.keystr(path[:-1], simple=True, separator="/") or "top"].append(leaf)
    return layers
