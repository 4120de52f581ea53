"""Draws where SGM's attention lies, without and with the keypoint-aware loss (SGMHand, Fig. 5).

python -m launch.assets.attention_picture docs/images/attention.jpg --data RECORDS --without-ka DIR --with-ka DIR

Held-out photographs in a row; under them the map A of each module over the photograph. Also prints how much of A lies
in the discs around the keypoints, beside the share of the picture that these are.
"""

import argparse
import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from handjax.adapters.files import load_sgm
from handjax.adapters.losses import keypoint_mask
from handjax.diffusion.model import StableDiffusion, load_stable_diffusion
from handjax.errors import InputError
from handjax.images import write_image
from handjax.inference.evaluate import Batch
from handjax.metrics.intervals import bootstrap_mean_interval
from handjax.preview import from_model_range, heat_map, sheet
from launch import command
from launch.evaluate import BATCH, held_out_batches

COLUMNS = 8
HEAT = 0.65
"""Share of the map in what is drawn; the rest is the photograph."""


def main() -> None:
    """Writes the picture and prints the shares."""
    parser = argparse.ArgumentParser(prog="launch.assets.attention_picture", description=__doc__)
    parser.add_argument("out", type=Path, help="the picture to write")
    parser.add_argument("--data", required=True, help="prepared records; their held-out split is used")
    parser.add_argument("--without-ka", type=Path, required=True, metavar="DIR", help="exported SGM")
    parser.add_argument("--with-ka", type=Path, required=True, metavar="DIR", help="exported SGM")
    parser.add_argument("--model", default="tiny_inpainting", help="that they were trained on")
    parser.add_argument("--limit", type=int, default=200, help="pictures; the shares are of those with keypoints")
    arguments = parser.parse_args()
    model = load_stable_diffusion(arguments.model)
    batch = examples(arguments.data, model, arguments.limit)
    rows = [from_model_range(jnp.asarray(batch["image"][:COLUMNS]))]
    for name in ("without_ka", "with_ka"):
        maps = attention_maps(getattr(arguments, name), batch)
        shares, of_picture = shares_on_keypoints(maps, batch)
        low, high = bootstrap_mean_interval(shares)
        print(f"{name}: {shares.mean():.3f} [{low:.3f}, {high:.3f}] of A in {of_picture:.3f} of the picture")
        heat = heat_map(maps[:COLUMNS], (rows[0].shape[1], rows[0].shape[2]))
        rows.append(HEAT * heat + (1 - HEAT) * rows[0])
    write_image(arguments.out, np.asarray(sheet(*(row.swapaxes(1, 2) for row in rows)).swapaxes(0, 1)))


def examples(data: str, model: StableDiffusion, limit: int) -> Batch:
    """The held-out examples with keypoints among the first `limit`, as one batch: of the others A has no target.

    Raises:
        InputError: none of them has keypoints.

    Source:
        DECISIONS A5.
    """
    batches = list(itertools.islice(held_out_batches(data, model, limit), -(-limit // BATCH)))
    batch = {name: np.concatenate([batch[name] for batch in batches])[:limit] for name in batches[0]}
    with_keypoints = batch["keypoints_valid"].astype(bool)
    if not with_keypoints.any():
        raise InputError(
            f"{data}: none of {len(with_keypoints)} held-out examples has keypoints; name records that have"
        )
    return {name: values[with_keypoints] for name, values in batch.items()}


def attention_maps(folder: Path, batch: Batch) -> Float[Array, "batch cells cells"]:
    """The map A of an exported module; its greatest value is 1."""
    sgm, params = load_sgm(folder)
    apply: Any = jax.jit(sgm.apply)
    return apply({"params": params}, batch["depth"], batch["skeleton"]).attention_map


def shares_on_keypoints(maps: Any, batch: Batch) -> tuple[Float[np.ndarray, " batch"], float]:
    """The share of each map that lies in M^pose (Eq. 10), and the mean share of cells that are in it."""
    size, cells = batch["image"].shape[1], maps.shape[-1]
    discs = keypoint_mask(jnp.asarray(batch["keypoints"]), jnp.asarray(batch["box_side"]), size, cells)
    on_discs = (maps * discs).sum(axis=(1, 2)) / maps.sum(axis=(1, 2))
    return np.asarray(on_discs, np.float64), float(discs.mean())


if __name__ == "__main__":
    command.run(main)
