"""VQ-MANO: hand poses to discrete tokens and back."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from handjax.errors import ConfigError
from handjax.hand.mano import load_hand
from handjax.hand.model import HandModel, PosedHand
from handjax.hand.rotations import axis_angle_to_matrix
from handjax.metrics.alignment import aligned_errors
from handjax.preview import sheet
from handjax.recovery.posing import draw_poses, pose_hands
from handjax.recovery.quantizer import Quantizer, nearest_codes, perplexity, straight_through
from handjax.recovery.tokenizer import CODEBOOK, Tokenizer, save_tokenizer
from handjax.recovery.vq_mano import JOINTS, TOKEN_COUNTS, VQMano
from handjax.training.task import Terms, total

PREVIEWS = 8


@dataclasses.dataclass(frozen=True)
class VQManoTask:
    """Reconstruction of rotations, vertices and joints, and commitment to the codes.

    Args:
        network: encoder and decoder.
        quantizer: the codebook, whose averages are the model state.
        hand: the hand model; open or MANO's.
        rotation_weight: of the L1 error of rotation matrices, λ_θ.
        vertex_weight: of the L1 error of vertices as seen from the wrist, centimetres, λ_V.
        joint_weight: likewise of keypoints, λ_J.
        commitment_weight: of the squared distance of latents from their codes, λ_α.
        embedding_weight: of the squared distance of codes from their latents, λ_E; unless it is 0, the codebook is
            learnt by this gradient, without resets, in place of moving averages.

    Source: MMHMR section 3.1, losses L_vq-mano and L_recon; DECISIONS F2, F3.
    """

    network: VQMano
    quantizer: Quantizer
    hand: HandModel
    rotation_weight: float
    vertex_weight: float
    joint_weight: float
    commitment_weight: float
    embedding_weight: float

    @property
    def loss_weights(self):
        weights = {
            "rotation": self.rotation_weight,
            "vertex": self.vertex_weight,
            "joint": self.joint_weight,
            "commitment": self.commitment_weight,
        }
        return weights | ({"embedding": self.embedding_weight} if self.embedding_weight else {})

    @property
    def exports(self):
        return {"handjax": self._save}

    def batch_spec(self):
        pose = jax.ShapeDtypeStruct((JOINTS, 3), jnp.float32)
        return {"pose": pose, "betas": jax.ShapeDtypeStruct(self.hand.shapedirs.shape[-1:], jnp.float32)}

    def init(self, rng):
        network_key, code_key = jax.random.split(rng)
        params = jax.jit(self.network.init)(network_key, jnp.zeros((1, JOINTS, 3, 3)))["params"]
        vq = self.quantizer.init(code_key)
        if self.embedding_weight:
            params = {**params, CODEBOOK: self.quantizer.revived(vq)[0]}
        return params, {"vq": vq}

    def frozen(self):
        return {"hand": self.hand}

    def loss(self, trainable, frozen, state, batch, rng):
        rotations = axis_angle_to_matrix(batch["pose"])
        latents = self._encode(trainable, rotations)
        codebook = self._codebook(trainable, state)
        indices = nearest_codes(latents, codebook)
        codes = codebook[indices]
        decoded = self._decode(trainable, straight_through(latents, codes))
        losses = self._errors(frozen["hand"], decoded, rotations, batch["betas"]) | self._distances(latents, codes)
        vq = self.quantizer.updated(state["vq"], jax.lax.stop_gradient(latents), indices, rng)
        size = jnp.float32(len(rotations))
        metrics = {
            "perplexity": (size * perplexity(vq["counts"]), size),
            "usage": (size * (vq["counts"] > self.quantizer.revived_count).mean(), size),
        }
        return losses, {"vq": vq}, metrics

    def evaluate(self, trainable, frozen, state, batch, rng):
        """Measures hard tokens, also by FreiHAND's metrics in millimetres."""
        rotations = axis_angle_to_matrix(batch["pose"])
        decoded, latents, codes = self._reconstruct(trainable, state, rotations)
        terms = self._errors(frozen["hand"], decoded, rotations, batch["betas"]) | self._distances(latents, codes)
        made, truth = (pose_hands(frozen["hand"], turns, batch["betas"]) for turns in (decoded, rotations))
        terms["pa_mpjpe_mm"] = total(1000 * aligned_errors(made.keypoints, truth.keypoints))
        terms["pa_mpvpe_mm"] = total(1000 * aligned_errors(made.vertices, truth.vertices))
        return terms

    def preview(self, trainable, frozen, state, batch, rng):
        """Draws skeletons beside their reconstructions."""
        rotations = axis_angle_to_matrix(batch["pose"][:PREVIEWS])
        decoded, _, _ = self._reconstruct(trainable, state, rotations)
        return {"reconstruction": sheet(*(draw_poses(frozen["hand"], turns) for turns in (rotations, decoded)))}

    def _save(self, params, state, folder, dtype):
        networks = {name: value for name, value in params.items() if name != CODEBOOK}
        save_tokenizer(Tokenizer(self.network, networks, self._codebook(params, state), self.hand.name), folder, dtype)

    def _codebook(self, params, state):
        return params[CODEBOOK] if self.embedding_weight else self.quantizer.revived(state["vq"])[0]

    def _encode(self, params, rotations):
        return self.network.apply({"params": params}, rotations, method="encode")

    def _decode(self, params, latents):
        return self.network.apply({"params": params}, latents, method="decode")

    def _reconstruct(self, params, state, rotations):
        codebook = self._codebook(params, state)
        latents = self._encode(params, rotations)
        codes = codebook[nearest_codes(latents, codebook)]
        return self._decode(params, codes), latents, codes

    def _errors(self, hand, decoded, rotations, betas) -> Terms:
        made, truth = (pose_hands(hand, turns, betas) for turns in (decoded, rotations))
        return {
            "rotation": total(jnp.abs(decoded - rotations).mean((1, 2, 3))),
            "vertex": total(_from_wrist_cm(made, truth, "vertices")),
            "joint": total(_from_wrist_cm(made, truth, "keypoints")),
        }

    def _distances(self, latents: Float[Array, "batch L D"], codes: Float[Array, "batch L D"]) -> Terms:
        held = jax.lax.stop_gradient
        terms = {"commitment": total(jnp.square(latents - held(codes)).mean((1, 2)))}
        if self.embedding_weight:
            terms["embedding"] = total(jnp.square(held(latents) - codes).mean((1, 2)))
        return terms


def _from_wrist_cm(made: PosedHand, truth: PosedHand, part: str) -> Float[Array, " batch"]:
    ours, theirs = (getattr(posed, part) - posed.keypoints[:, :1] for posed in (made, truth))
    return 100 * jnp.abs(ours - theirs).mean((1, 2))


def make(config: Any) -> VQManoTask:
    """Makes the task of a recipe with `network` (of `VQMano`), `quantizer` (of `Quantizer`), `loss` and
    `data.hand_model`.

    Raises:
      ConfigError: a number of tokens that the joints cannot share, or averages of the parameters to which a codebook
        that follows the parameters themselves would not fit.
    """
    if config.network.tokens not in TOKEN_COUNTS:
        raise ConfigError(f"network.tokens={config.network.tokens} does not fit 16 joints; use one of {TOKEN_COUNTS}")
    loss = config.loss
    if config.ema_decay and not loss.embedding_weight:
        raise ConfigError(
            f"ema_decay={config.ema_decay} does not fit a codebook of averages, which follows the latest parameters; "
            "use ema_decay=0, or learn the codebook by loss.embedding_weight=0.02"
        )
    network = VQMano(**config.network, dim=config.quantizer.dim)
    return VQManoTask(
        network,
        Quantizer(**config.quantizer),
        load_hand(config.data.hand_model),
        loss.rotation_weight,
        loss.vertex_weight,
        loss.joint_weight,
        loss.commitment_weight,
        loss.embedding_weight,
    )
