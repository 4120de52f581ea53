"""Held-out pictures painted anew by any kind of adapter, as files beside the photographs they are of."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray, UInt8
from tqdm import tqdm

from handjax.adapters.files import load_controlnet, load_sgm
from handjax.diffusion.model import StableDiffusion
from handjax.files import atomic_write
from handjax.images import write_image
from handjax.inference.controlled import PLAIN_SETTINGS, Controlled, paint_controlled
from handjax.inference.evaluate import Batch, paint_batch
from handjax.inference.handrefiner import HandRefiner
from handjax.inference.paste import paste_back
from handjax.inference.refine import Refiner
from handjax.perception import HandDetector
from handjax.preview import from_model_range
from launch.evaluate import held_out_batches
from launch.paper_tables.rows import Setting

Pictures = UInt8[np.ndarray, "batch size size 3"]
Paint = Callable[[Batch, PRNGKeyArray], Pictures]
SAMPLING = PLAIN_SETTINGS
"""Of all rows alike: one picture a hand, from noise alone."""


def held_out_examples(
    records: str, setting: Setting, model: StableDiffusion, limit: int, captions: Path
) -> Iterator[Batch]:
    """The held-out examples of a setting, as many as `limit`; `captions` are those of refined examples."""
    size = model.unet.config.sample_size * model.vae.config.factor
    others = {
        "mesh": jax.ShapeDtypeStruct((size, size, 1), np.float32),
        "hand_tokens": jax.ShapeDtypeStruct((model.tokenizer.length,), np.float32),
    }
    file = str(captions) if setting.examples == "refined" else ""
    left = limit
    for batch in held_out_batches(records, model, limit, others, file):
        if left <= 0:
            return
        shown = batch if setting.examples == "hands" else batch | {"mask": np.ones_like(batch["mask"])}
        yield {name: rows[:left] for name, rows in shown.items()}
        left -= len(batch["image"])


def photographs(batch: Batch) -> Pictures:
    """The pictures of a batch as bytes."""
    return np.asarray(jnp.round(from_model_range(jnp.asarray(batch["image"])) * 255).astype(jnp.uint8))


def make_paint(setting: Setting, model: StableDiffusion, adapter: Path | None, detector: HandDetector) -> Paint:
    """Loads what a setting paints with.

    Args:
      setting: decides the method.
      model: an inpainting model, on the device.
      adapter: what its training has exported.
      detector: judges the strengths of HandRefiner.

    Raises:
      WeightsError: the adapter is missing, damaged, or of another condition.
    """
    if setting.method == "alone" or adapter is None:
        return partial(_paint_alone, Refiner(model, None, None, detector, SAMPLING))
    if setting.method == "sgm":
        sgm, params = load_sgm(adapter)
        return partial(paint_batch, Refiner(model, sgm, jax.device_put(params), detector, SAMPLING))
    network, params = load_controlnet(adapter, condition=setting.condition)
    params = jax.device_put(params)
    if setting.method == "adaptive":
        return partial(paint_batch, HandRefiner(model, network, params, detector, SAMPLING))
    control, alpha = Controlled(network, params), network.config.hand_alpha
    return partial(paint_biased, model, control, setting.condition, alpha)


def _paint_alone(refiner: Refiner, batch: Batch, key: PRNGKeyArray) -> Pictures:
    return refiner.paint(batch["image"], batch["mask"], None, None, batch["input_ids"], key)


def paint_biased(
    model: StableDiffusion, control: Controlled, condition: str, alpha: float, batch: Batch, key: PRNGKeyArray
) -> Pictures:
    """Paints under a ControlNet with a bias on the words on hands, which may be another than it was trained with."""
    bias = alpha * batch["hand_tokens"] if alpha else None
    inputs = (batch["image"], batch["mask"], batch[condition], batch["input_ids"])
    return paint_controlled(model, control, SAMPLING, *inputs, key, bias)


def write_painted(batches: Iterable[Batch], paint: Paint, folder: Path, seed: int, limit: int) -> None:
    """Writes the painted pictures, NUMBER.png, outside their masks the photographs; the folder is whole or absent."""

    def painted() -> Iterator[Pictures]:
        for number, batch in enumerate(batches):
            made = paint(batch, jax.random.fold_in(jax.random.key(seed), number))
            yield np.stack([_paste(*row) for row in zip(photographs(batch), made, batch["mask"], strict=True)])

    write_pictures(painted(), folder, limit)


def write_pictures(batches: Iterable[Pictures], folder: Path, limit: int) -> None:
    """Writes pictures as NUMBER.png; the folder is whole or absent."""
    pictures = (picture for batch in batches for picture in batch)
    with atomic_write(folder) as temporary:
        for number, picture in enumerate(tqdm(pictures, folder.name, limit, unit="picture", disable=None)):
            write_image(temporary / f"{number:05d}.png", picture)


def _paste(photo, painted, mask):
    return paste_back(photo, painted, mask[..., 0], np.array([0, 0, len(photo), len(photo)]))[0]
