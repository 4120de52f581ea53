"""MMHMR's text-to-mesh: from a caption of a hand to its pose tokens, by masked modelling."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from handjax.diffusion.text_model import TextModel, load_text_model
from handjax.diffusion.tokenizer import Tokenizer as CaptionTokenizer
from handjax.hand.model import HandModel
from handjax.hand.rotations import axis_angle_to_matrix
from handjax.metrics.alignment import aligned_errors
from handjax.preview import sheet
from handjax.recovery.masking import draw_masks
from handjax.recovery.network import SHAPES
from handjax.recovery.posing import draw_poses, pose_hands
from handjax.recovery.text_files import TextMeshModel, save_text_to_mesh
from handjax.recovery.text_network import TextMeshConfig, TextMeshNetwork, example_inputs
from handjax.recovery.tokenizer import Tokenizer, code_rotations, pose_tokens
from handjax.recovery.vq_mano import JOINTS
from handjax.recovery.writing import PoseWriter, TextFixed
from handjax.tasks.mesh_recovery import GEOMETRY_SCALE, check_heads, expected_codes, tokenizer_and_hand
from handjax.training.task import total

PREVIEWS, DRAWN = 4, 3


@dataclasses.dataclass(frozen=True)
class TextToMeshTask:
    """Masked modelling of pose tokens under captions, with geometry through the expected codes.

    As MMHMR on pictures, less what only a picture tells: camera, places in it, and shape, which the tokens do not hold
    and the caption does not say. Records without a mesh teach nothing.

    Args:
        network: the transformer.
        tokenizer: VQ-MANO, which stays as it is.
        text: CLIP's text encoder, which stays as it is.
        hand: the hand model that the tokenizer knows.
        weights: of the losses "mask", "rotation" and "joints_3d" (DECISIONS F6).
        most: upper end of τ, of which the share of hidden tokens is the cosine (DECISIONS F4).

    Source: MMHMR appendix D.
    """

    network: TextMeshNetwork
    tokenizer: Tokenizer
    text: TextModel
    hand: HandModel
    weights: dict[str, float]
    most: float

    @property
    def loss_weights(self):
        return self.weights

    @property
    def exports(self):
        return {"handjax": self._save}

    @property
    def caption_tokenizer(self) -> CaptionTokenizer:
        """By which the loader makes `input_ids`."""
        return self.text.tokenizer

    @property
    def writer(self) -> PoseWriter:
        """The networks."""
        return PoseWriter(self.network, self.tokenizer.network, self.text.network)

    def batch_spec(self):
        return {
            "pose": jax.ShapeDtypeStruct((JOINTS, 3), jnp.float32),
            "betas": jax.ShapeDtypeStruct((SHAPES,), jnp.float32),
            "mesh_known": jax.ShapeDtypeStruct((), jnp.bool_),
            "input_ids": jax.ShapeDtypeStruct((self.text.words,), jnp.int32),
        }

    def init(self, rng):
        return jax.jit(self.network.init)(rng, *example_inputs(self.network))["params"], {}

    def frozen(self):
        return TextFixed(self.tokenizer.arrays, self.hand, self.text.params)

    def loss(self, trainable, frozen, state, batch, rng):
        known, codes = jnp.asarray(batch["mesh_known"]), self.network.config.codes
        tokens = pose_tokens(self.tokenizer.network, frozen.tokenizer, jnp.asarray(batch["pose"]))
        hidden = draw_masks(rng, tokens.shape[1], self.most) & known[:, None]
        logits = self.writer.predictor(trainable, frozen, jnp.asarray(batch["input_ids"]))(
            jnp.where(hidden, codes, tokens)
        )
        log_likelihood = jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[..., None], axis=-1)[..., 0]
        expected = expected_codes(logits, tokens, hidden, frozen.tokenizer["codebook"])
        made = code_rotations(self.tokenizer.network, frozen.tokenizer, expected)
        truth, betas = axis_angle_to_matrix(jnp.asarray(batch["pose"])), jnp.asarray(batch["betas"])
        ours, theirs = (pose_hands(frozen.hand, turns, betas).keypoints for turns in (made, truth))
        far = jnp.abs((ours - ours[:, :1]) - (theirs - theirs[:, :1])).sum((1, 2))
        losses = {
            "mask": total(-log_likelihood, hidden),
            "rotation": total(GEOMETRY_SCALE * jnp.square(made - truth).sum((1, 2, 3)), known),
            "joints_3d": total(GEOMETRY_SCALE * far, known),
        }
        return losses, state, {"token_right": total(logits.argmax(-1) == tokens, hidden)}

    def evaluate(self, trainable, frozen, state, batch, rng):
        """Measures the losses, and a hand drawn for each caption beside the record's, aligned, in millimetres."""
        terms, _, _ = self.loss(trainable, frozen, state, batch, rng)
        drawn, decoded = self.writer.write(trainable, frozen, jnp.asarray(batch["input_ids"]), rng[0], 1)
        ours = pose_hands(frozen.hand, drawn[0], jnp.zeros_like(batch["betas"])).vertices
        theirs = pose_hands(frozen.hand, axis_angle_to_matrix(batch["pose"]), batch["betas"]).vertices
        terms["pa_mpvpe_mm"] = total(1000 * aligned_errors(ours, theirs), batch["mesh_known"])
        terms["confidence"] = total(decoded.confidence)
        return terms

    def preview(self, trainable, frozen, state, batch, rng):
        """Draws the records' hands, and beside each some that are drawn for its caption."""
        pose, ids = jnp.asarray(batch["pose"][:PREVIEWS]), jnp.asarray(batch["input_ids"][:PREVIEWS])
        drawn, _ = self.writer.write(trainable, frozen, ids, rng[0], DRAWN)
        columns = (axis_angle_to_matrix(pose), *drawn)
        return {"written": sheet(*(draw_poses(frozen.hand, turns) for turns in columns))}

    def _save(self, params, state, folder, dtype):
        save_text_to_mesh(TextMeshModel(self.network, params, self.tokenizer, self.text), folder, dtype)


def make(config: Any) -> TextToMeshTask:
    """Makes the task of a recipe with `tokenizer` (folder of an exported one), `text_model` (as `load_text_model` takes
    it), `network` (of `TextMeshConfig`), `most`, `loss` and `hand_model` (path of a MANO file, or empty).

    Raises:
      ConfigError: no tokenizer is named, or it was trained on another hand model; heads that cannot share the channels.
      WeightsError: a file cannot be read.
    """
    check_heads("network", config.network.features, config.network.heads)
    tokenizer, hand = tokenizer_and_hand(config)
    text = load_text_model(config.text_model)
    sizes = TextMeshConfig(
        tokens=tokenizer.network.tokens,
        codes=len(tokenizer.codebook),
        text=text.network.config.hidden_size,
        **config.network,
    )
    return TextToMeshTask(TextMeshNetwork(sizes), tokenizer, text, hand, dict(config.loss), config.most)
