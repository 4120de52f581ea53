"""Draws the pictures of mesh recovery, of held-out records in their order, none left out.

python -m launch.assets.recovery_picture --data records --out docs/images

recovery.jpg has each hand beside the mesh that is read from the picture alone. recovery_ranks.jpg has the meshes of the
tokens of other ranks than the first (MMHMR Figs. 10, 17). recovery_points.jpg has the points of the feature maps that
the last layer of the synthesiser looks at, a column a finger, red for its first joint, yellow and white for the others
(Fig. 16).
"""

import argparse
import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from handjax.hand.camera import PinholeCamera
from handjax.hand.mano import load_hand
from handjax.images import write_image
from handjax.inference.reconstruct import draw_mesh
from handjax.preview import from_model_range
from handjax.recovery.camera import FOCAL, crop_places, crop_translation
from handjax.recovery.decoding import ranked
from handjax.recovery.files import ASSET, RecoveryModel, load_recovery
from handjax.recovery.reading import Fixed, MeshReader
from handjax.recovery.vq_mano import JOINTS
from launch import command, evaluate_recovery
from launch.evaluate_recovery import held_out_batches

HANDS, ACROSS, FEW = 48, 8, 6
"""In the sheet, of which so many stand beside each other; in the other two pictures."""
RANKS = (1, 7, 10, 100, 250)
FINGERS = ((1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12), (13, 14, 15))
"""Joints in MANO's order: index, middle, little, ring, thumb."""
COLORS = ((230, 25, 0), (255, 217, 0), (255, 255, 255))


def main() -> None:
    """Writes the three pictures."""
    parser = argparse.ArgumentParser(prog="launch.assets.recovery_picture", description=__doc__)
    parser.add_argument("--data", required=True, help="prepared records, of which the held-out split is shown")
    parser.add_argument("--model", type=Path, default=ASSET, metavar="DIR", help="exported weights of mmhmr.py")
    parser.add_argument("--hand-model", default="", metavar="FILE", help="MANO file of weights that know MANO")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the pictures")
    arguments = parser.parse_args()
    artist = Artist(load_recovery(arguments.model), load_hand(arguments.hand_model))
    batches, count = held_out_batches(artist.model, artist.fixed.hand, arguments.data, HANDS)
    needed = -(-count // evaluate_recovery.BATCH)
    images = np.concatenate([batch["image"] for batch in itertools.islice(batches, needed)])[:count]
    tiles = np.concatenate([artist.plain(images), artist.meshes(images, rank=1)], axis=2)
    write_image(arguments.out / "recovery.jpg", _grid(tiles, ACROSS // 2))
    few = images[:FEW]
    ranks = [rank for rank in RANKS if rank <= artist.model.network.config.codes]
    columns = [artist.plain(few), *(artist.meshes(few, rank) for rank in ranks)]
    write_image(arguments.out / "recovery_ranks.jpg", _grid(np.concatenate(columns, axis=2), 1))
    columns = [artist.plain(few), *artist.looks(few)]
    write_image(arguments.out / "recovery_points.jpg", _grid(np.concatenate(columns, axis=2), 1))


class Artist:
    """Reads crops without their keypoints and draws what comes out.

    Args:
        model: transformer and tokenizer.
        hand: the right hand that the tokenizer knows.
    """

    def __init__(self, model: RecoveryModel, hand: Any):
        self.model, self.fixed = model, Fixed(model.tokenizer.arrays, hand)
        self._reader = MeshReader(model.network, model.tokenizer.network)

    def plain(self, images: Float[np.ndarray, "n s s 3"]) -> UInt8[np.ndarray, "n s s 3"]:
        """The crops themselves."""
        return np.asarray(jnp.round(255 * from_model_range(jnp.asarray(images))).astype(jnp.uint8))

    def meshes(self, images: Float[np.ndarray, "n s s 3"], rank: int) -> UInt8[np.ndarray, "n s s 3"]:
        """Meshes of the tokens of a rank, over the crops."""
        made, _ = self._recover(images, rank)
        size = images.shape[1]
        camera = PinholeCamera(jnp.full(2, FOCAL * size), jnp.full(2, size / 2))
        places = np.asarray(made.posed.vertices + crop_translation(made.camera)[:, None])
        faces = np.asarray(self.fixed.hand.faces)
        drawn = [draw_mesh(image, mesh, faces, camera) for image, mesh in zip(self.plain(images), places, strict=True)]
        return np.stack(drawn)

    def looks(self, images: Float[np.ndarray, "n s s 3"]) -> list[UInt8[np.ndarray, "n s s 3"]]:
        """Where the last layer samples the maps for the tokens of each finger."""
        _, decoded = self._recover(images, rank=1)
        network, params = self.model.network, {"params": self.model.params}
        context = network.apply(params, images, method="encode")
        _, kept = network.apply(
            params,
            decoded.tokens,
            self._no_cue(images),
            context,
            method="predict",
            capture_intermediates=lambda _, method: method == "places",
        )
        last = kept["intermediates"][f"layers_{network.config.layers - 1}"]["cross_attention"]["places"][0]
        pixels = (np.asarray(crop_places(last)) + 0.5) * images.shape[1]
        per_joint = pixels.reshape(len(images), JOINTS, -1, 2)
        return [self._dots(images, per_joint, finger) for finger in FINGERS]

    def _dots(self, images, per_joint, finger) -> UInt8[np.ndarray, "n s s 3"]:
        drawn, size = self.plain(images) // 2, images.shape[1]
        for row, (joint, color) in itertools.product(range(len(images)), zip(finger, COLORS, strict=True)):
            x, y = np.floor(per_joint[row, joint]).astype(int).T
            inside = (x >= 0) & (x < size) & (y >= 0) & (y < size)
            drawn[row, y[inside], x[inside]] = color
        return drawn

    def _recover(self, images, rank: int):
        return self._reader.recover(
            self.model.params, self.fixed, images, self._no_cue(images), jax.random.key(0), choose=ranked(rank)
        )

    @staticmethod
    def _no_cue(images):
        return jnp.zeros((len(images), 21, 3))


def _grid(tiles: UInt8[np.ndarray, "n height width 3"], across: int) -> UInt8[np.ndarray, "_ _ 3"]:
    """Rows of tiles; what does not fill a row is left out."""
    across = min(across, len(tiles))
    starts = range(0, len(tiles) - across + 1, across)
    return np.concatenate([np.concatenate(list(tiles[start : start + across]), axis=1) for start in starts])


if __name__ == "__main__":
    command.run(main)
