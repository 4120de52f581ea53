"""Whether a discriminator helps hands of a set that it has not learned from: `launch.bench mghand_cross`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from handjax.conditions.crops import crop_image, hand_box
from handjax.diffusion.model import StableDiffusion
from handjax.errors import ConfigError, InputError
from handjax.images import decode_image
from handjax.inference.generate import Generator
from handjax.metrics.features import effnet_lite0
from handjax.metrics.kernel import kernel_distance_of_subsets
from handjax.preview import from_model_range
from handjax.record import HandRecord
from launch.assets.mghand import DISCRIMINATOR, folder_of
from launch.bench_discriminator import read_records
from launch.bench_guidance import SIDE, features_of, make_pictures
from launch.bench_mghand import ASKED, PHOTOS, compare, draw_wishes, make, watch
from launch.generator import load_asked
from launch.judge import Image, change_of_confidence, judge_all, make_judge, verdicts_of

SETS = {"photos": PHOTOS, "rendered": ("a rendered photo of {hand}",)}
"""Folders of records, and prompts in the words of their captions."""
BATCH = 32


def bench_mghand_cross(_runs: int, data: Path | None = None, samples: int = 64) -> Iterator[dict[str, Any]]:
    """Pictures of each set's prompts, from the same noise without guidance and by each set's discriminator alone.

    Args:
      data: workdir of `launch.assets.mghand`, once for each set with `--only`.
      samples: pictures each way; they take the prompts in turn.

    Raises:
      ConfigError: there is no folder.
      InputError: a set's discriminator or its records are missing.
      BackendError: MediaPipe, or what the discriminators read, is not on this machine.
    """
    if data is None:
        raise ConfigError("mghand_cross needs the workdir of launch.assets.mghand; name it with --data")
    guided = {name: load_guided(data, name) for name in SETS}
    plain, judge, extractor = load_asked(*ASKED, "none"), make_judge(), effnet_lite0()
    for asked, forms in SETS.items():
        wishes = draw_wishes(samples, forms)
        crops = [crop_of(record) for record in read_records(data / asked, "eval")]
        reference = features_of(crops, extractor)
        seen = through_autoencoder(plain.model, crops)
        for name, pictures in ((f"real {asked}", crops), (f"real {asked} through the autoencoder", seen)):
            yield from verdicts_of(f"mghand {name}", judge_all(judge, pictures))

        def distance(images: Sequence[Image], reference: np.ndarray = reference) -> dict[str, Any]:
            value = kernel_distance_of_subsets(features_of(images, extractor), reference, 0)
            return {"ours": value, "unit": "(EffNet-Lite0)", "pictures": len(images), "reference": len(reference)}

        images = make_pictures(plain, wishes, f"none, {asked}")
        before, after = judge_all(judge, images), {}
        yield from verdicts_of(f"mghand none for {asked}", before)
        yield {"name": f"mghand none for {asked}, KID", **distance(images)}
        for taught in SETS:
            name = f"taught by {taught} for {asked}"
            made = make(guided[taught], wishes, name)
            after[taught] = judge_all(judge, [one.image for one in made])
            yield from compare(name, images, made, before, after[taught])
            yield {"name": f"mghand {name}, KID", **distance([one.image for one in made])}
        (other,) = SETS.keys() - {asked}
        name = f"mghand taught by {asked} rather than {other} for {asked}"
        yield change_of_confidence(name, after[other], after[asked])


def load_guided(data: Path, name: str) -> Generator:
    """The embedded model, guided by the discriminator of one set alone.

    Raises:
      InputError: there is none.
    """
    folder = folder_of(data, name) / DISCRIMINATOR
    if not folder.is_dir():
        raise InputError(f"{folder}: no discriminator; run launch.assets.mghand --workdir {data} --only {name}")
    return watch(load_asked(*ASKED, "mghand", "--mghand-discriminator", str(folder)))


def through_autoencoder(model: StableDiffusion, images: Sequence[Image]) -> list[Image]:
    """What the model could show of pictures at best."""
    show = jax.jit(lambda batch: model.decode(model.encode(batch)))
    shown = []
    for start in range(0, len(images), BATCH):
        part = jnp.asarray(np.stack(images[start : start + BATCH]), jnp.float32) / 127.5 - 1
        shown += list(np.asarray(jnp.round(255 * from_model_range(show(part)))).astype(np.uint8))
    return shown


def crop_of(record: HandRecord) -> Image:
    """The record's hand, framed as the embedded model learnt it."""
    assert record.keypoints_2d is not None
    image = decode_image(record.image, record.id)
    return crop_image(image, hand_box(record.keypoints_2d[:, :2]), SIDE)
