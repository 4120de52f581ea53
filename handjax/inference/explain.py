"""Why a mesh is what it is: the meshes of less likely tokens, and where the network looks (MMHMR Figs. 10, 16, 17)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from handjax.hand.camera import PinholeCamera
from handjax.hand.model import HandModel
from handjax.inference.scene import draw_mesh
from handjax.preview import from_model_range
from handjax.recovery.camera import FOCAL, crop_places, crop_translation
from handjax.recovery.decoding import Decoded, ranked
from handjax.recovery.files import RecoveryModel
from handjax.recovery.reading import Fixed, MeshReader, Recovered
from handjax.recovery.tokenizer import check_hand
from handjax.recovery.vq_mano import JOINTS

RANKS = (1, 7, 10, 100, 250, 1000)
"""Of the tokens (MMHMR Figs. 10, 17)."""
FINGERS = ((1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12), (13, 14, 15))
"""Joints in MANO's order: index, middle, little, ring, thumb."""
COLORS = ((230, 25, 0), (255, 217, 0), (255, 255, 255))
"""Of a finger's joints, the first one's first."""

Crops = Float[np.ndarray, "n s s 3"]
Cue = Float[np.ndarray, "n 21 3"]
Tiles = UInt8[np.ndarray, "n s _ 3"]


class Explainer:
    """Reads crops of right hands and draws over them what comes out.

    Args:
        model: transformer and tokenizer.
        hand: the right hand that the tokenizer knows.

    Raises:
        ConfigError: the tokenizer knows another hand model, or the hand is a left one.

    Attributes:
        ranks: `RANKS`, as far as there are codes.
    """

    def __init__(self, model: RecoveryModel, hand: HandModel):
        check_hand(model.tokenizer, hand)
        self.model, self.fixed = model, Fixed(model.tokenizer.arrays, hand)
        self._reader = MeshReader(model.network, model.tokenizer.network)
        self.ranks = [rank for rank in RANKS if rank <= model.network.config.codes]
        self._recover, self._recover_rank = jax.jit(self._reader.recover), jax.jit(self._of_rank)
        self._look = jax.jit(self._points)

    def plain(self, crops: Crops) -> Tiles:
        """The crops themselves, which are in [-1, 1]."""
        return np.asarray(jnp.round(255 * from_model_range(jnp.asarray(crops))).astype(jnp.uint8))

    def read(self, crops: Crops, cue: Cue, rank: int | None = None) -> tuple[Recovered, Decoded]:
        """The hands as they are reconstructed, or those of the tokens of a rank, of which 1 is the likeliest."""
        if rank is None:
            return self._recover(self.model.params, self.fixed, crops, cue, jax.random.key(0))
        return self._recover_rank(self.model.params, self.fixed, crops, cue, rank)

    def meshes(self, crops: Crops, cue: Cue, rank: int | None = None) -> Tiles:
        """Meshes over the crops; the hands are those of `read`."""
        made, _ = self.read(crops, cue, rank)
        size = crops.shape[1]
        camera = PinholeCamera(jnp.full(2, FOCAL * size), jnp.full(2, size / 2))
        places = np.asarray(made.posed.vertices + crop_translation(made.camera)[:, None])
        faces = np.asarray(self.fixed.hand.faces)
        drawn = [draw_mesh(image, mesh, faces, camera) for image, mesh in zip(self.plain(crops), places, strict=True)]
        return np.stack(drawn)

    def less_likely(self, crops: Crops, cue: Cue) -> Tiles:
        """Each crop, then its meshes of the tokens of `ranks` (Figs. 10, 17)."""
        return np.concatenate([self.plain(crops), *(self.meshes(crops, cue, rank) for rank in self.ranks)], axis=2)

    def looks(self, crops: Crops, cue: Cue) -> Tiles:
        """Each crop, then where the last layer samples the maps for the tokens of each of `FINGERS` (Fig. 16)."""
        pixels = (np.asarray(crop_places(self.sampling_points(crops, cue))) + 0.5) * crops.shape[1]
        per_joint = pixels.reshape(len(crops), JOINTS, -1, 2)
        return np.concatenate([self.plain(crops), *(self._dots(crops, per_joint, f) for f in FINGERS)], axis=2)

    def sampling_points(self, crops: Crops, cue: Cue) -> Float[jax.Array, "n L heads levels points 2"]:
        """Places of the maps, in [0, 1], that the last layer samples when all tokens are decoded."""
        _, decoded = self.read(crops, cue)
        return self._look(self.model.params, crops, cue, decoded.tokens)

    def _dots(self, crops, per_joint, finger) -> Tiles:
        drawn, size = self.plain(crops) // 2, crops.shape[1]
        for row, (joint, color) in itertools.product(range(len(crops)), zip(finger, COLORS, strict=True)):
            x, y = np.floor(per_joint[row, joint]).astype(int).T
            inside = (x >= 0) & (x < size) & (y >= 0) & (y < size)
            drawn[row, y[inside], x[inside]] = color
        return drawn

    def _of_rank(self, params, fixed, crops, cue, rank):
        choose = ranked(rank, last=self.ranks[-1])
        return self._reader.recover(params, fixed, crops, cue, jax.random.key(0), mean_codes=False, choose=choose)

    def _points(self, params, crops, cue, tokens):
        network, params = self.model.network, {"params": params}
        context = network.apply(params, crops, method="encode")
        _, kept = network.apply(
            params,
            tokens,
            cue,
            context,
            method="predict",
            capture_intermediates=lambda _, method: method == "places",
        )
        return kept["intermediates"][f"layers_{network.config.layers - 1}"]["cross_attention"]["places"][0]
