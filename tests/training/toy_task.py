"""The smallest task that uses everything the loop offers: two masked losses, noise, frozen weights, a model state."""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import grain
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np


@dataclasses.dataclass(frozen=True)
class ToyTask:
    features: int
    loss_weights: Mapping[str, float]
    exports: ClassVar[Mapping[str, Any]] = {}

    def init(self, rng):
        params = {"w": 0.1 * jax.random.normal(rng, (self.features, self.features)), "b": jnp.zeros(self.features)}
        return params, {"mean": jnp.zeros(self.features)}

    def frozen(self):
        return {"target": np.linspace(-1, 1, self.features**2, dtype=np.float32).reshape(2 * [self.features])}

    def batch_spec(self):
        vector = jax.ShapeDtypeStruct((self.features,), jnp.float32)
        return {"x": vector, "mask": vector}

    def loss(self, trainable, frozen, state, batch, rng):
        noise = jax.vmap(lambda key: jax.random.normal(key, (self.features,)))(rng)
        x = batch["x"] + 0.1 * noise
        error = x @ trainable["w"] + trainable["b"] - x @ frozen["target"]
        losses = {
            "masked": (jnp.sum(batch["mask"] * error**2), jnp.sum(batch["mask"])),
            "absolute": (jnp.sum(jnp.abs(error)), jnp.float32(error.size)),
        }
        state = {"mean": 0.9 * state["mean"] + 0.1 * batch["x"].mean(0)}
        return losses, state, {"x_mean": (jnp.sum(x), jnp.float32(x.size))}

    def evaluate(self, trainable, frozen, state, batch, rng):
        return self.loss(trainable, frozen, state, batch, rng)[0]

    def preview(self, trainable, frozen, state, batch, rng):
        grey = jnp.clip(128 + 100 * trainable["w"], 0, 255).astype(jnp.uint8)
        return {"weights": jnp.repeat(grey[..., None], 3, -1)}


def make(config: ml_collections.ConfigDict) -> ToyTask:
    return ToyTask(config.features, {"masked": 1.0, "absolute": config.absolute})


def make_loader(data, *, batch_spec, batch_size, seed, split, process_index=0, process_count=1):
    """Shuffled random vectors, each made from its index.

    `data.delay` seconds an example slow a run down; it stands still while the file `data.hang` exists.
    """
    features = batch_spec["x"].shape[0]

    def example(index):
        time.sleep(data.delay)
        while data.hang and Path(data.hang).exists():
            time.sleep(0.1)
        rng = np.random.default_rng((index, split == "eval"))
        x = rng.standard_normal(features, np.float32)
        return {"x": x, "mask": (rng.random(features) < 0.1 + 0.8 * (index % 2)).astype(np.float32)}

    source = grain.MapDataset.source(np.arange(data.examples)).seed(seed)
    if split == "train":
        source = source.shuffle().repeat()
    read = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    batches = source.map(example).batch(batch_size // process_count, drop_remainder=True)
    return batches[process_index::process_count].to_iter_dataset(read)
