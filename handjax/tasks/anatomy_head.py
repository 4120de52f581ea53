"""HandAnat's head: classes of hands and numbers of fingers from the landmark network's feature maps."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from handjax.anatomy.head import MAPS, NOT_COUNTED, HeadNetwork, initial_params
from handjax.training.task import Term


@dataclasses.dataclass(frozen=True)
class AnatomyHeadTask:
    """Cross-entropy of the class and of the number of fingers.

    Args:
        network: the head.
        smoothing: share of a label that goes to all classes alike.
        count_weight: of the second cross-entropy.
    """

    network: HeadNetwork
    smoothing: float
    count_weight: float

    @property
    def loss_weights(self):
        return {"kind": 1.0, "count": self.count_weight}

    @property
    def exports(self):
        return {}  # launch.assets.anatomy_head adds temperature and threshold

    def batch_spec(self):
        maps = {n: jax.ShapeDtypeStruct((side, side, features), jnp.float16) for n, (side, features, _) in MAPS.items()}
        label = jax.ShapeDtypeStruct((), jnp.int32)
        return maps | {"kind": label, "count": label}

    def init(self, rng):
        return jax.jit(initial_params)(rng), {}

    def frozen(self):
        return {}

    def loss(self, trainable, frozen, state, batch, rng):
        kinds, counts = self.network.apply({"params": trainable}, batch, training=True, rngs={"dropout": rng[0]})
        losses = {
            "kind": _cross_entropy(kinds, batch["kind"], self.smoothing),
            "count": _cross_entropy(counts, batch["count"], self.smoothing),
        }
        return losses, state, {"kind_right": _share(kinds.argmax(axis=-1) == batch["kind"])}

    def evaluate(self, trainable, frozen, state, batch, rng):
        """Measures plain cross-entropies and accuracies."""
        kinds, counts = self.network.apply({"params": trainable}, batch)
        return {
            "kind": _cross_entropy(kinds, batch["kind"], 0.0),
            "count": _cross_entropy(counts, batch["count"], 0.0),
            "kind_right": _share(kinds.argmax(axis=-1) == batch["kind"]),
            "agreement": _share((kinds.argmax(axis=-1) == 0) == (batch["kind"] == 0)),
            "count_right": _share(counts.argmax(axis=-1) == batch["count"], batch["count"] != NOT_COUNTED),
        }

    def preview(self, trainable, frozen, state, batch, rng):
        return {}


def _cross_entropy(logits, labels, smoothing: float) -> Term:
    known = jnp.asarray(labels != NOT_COUNTED, jnp.float32)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return (known * optax.softmax_cross_entropy(logits, targets)).sum(), known.sum()


def _share(hits, known=True) -> Term:
    known = jnp.broadcast_to(known, hits.shape)
    return (hits & known).sum().astype(jnp.float32), known.sum().astype(jnp.float32)


def make(config: Any) -> AnatomyHeadTask:
    """Makes the task of a recipe with `dropout` and `loss`."""
    return AnatomyHeadTask(HeadNetwork(dropout=config.dropout), config.loss.smoothing, config.loss.count_weight)
