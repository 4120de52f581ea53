"""From pictures to posed hands: what the transformer, the tokenizer and the hand model make together."""

import dataclasses
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, Int, Key

from handjax.hand.model import HandModel, PosedHand
from handjax.recovery.decoding import Decoded, Predict, decode, hypotheses
from handjax.recovery.network import Context, RecoveryNetwork
from handjax.recovery.posing import pose_hands
from handjax.recovery.tokenizer import code_rotations, pose_tokens
from handjax.recovery.vq_mano import VQMano


class Recovered(NamedTuple):
    """Rotations, shape, camera and the posed hand of pictures."""

    rotations: Float[Array, "batch 16 3 3"]
    betas: Float[Array, "batch 10"]
    camera: Float[Array, "batch 3"]
    posed: PosedHand


class Fixed(NamedTuple):
    """What reading needs besides the transformer's parameters.

    Attributes:
        tokenizer: `Tokenizer.arrays`.
        hand: the hand model that the tokenizer knows.
    """

    tokenizer: dict[str, Any]
    hand: HandModel


@dataclasses.dataclass(frozen=True)
class MeshReader:
    """The networks; their weights are arguments of every method.

    Args:
        network: the transformer.
        tokenizer: encoder and decoder of poses.
    """

    network: RecoveryNetwork
    tokenizer: VQMano

    def recover(
        self,
        params: Any,
        fixed: Fixed,
        images: Float[Array, "batch size size 3"],
        cue: Float[Array, "batch 21 3"],
        key: Key[Array, ""],
        mean_codes: bool = True,
        **options: Any,
    ) -> tuple[Recovered, Decoded]:
        """Reads pictures once and decodes their tokens.

        Args:
            params: of the transformer.
            fixed: tokenizer and hand.
            images: crops of right hands in [-1, 1].
            cue: x and y of keypoints in the crop, -0.5 to 0.5, and confidence, 0 where there is none.
            key: of tokens that are drawn.
            mean_codes: whether poses are those of the tokens' mean codes (DECISIONS F14), or of the tokens' own, as in
                the paper and as other ranks than the first need it.
            options: those of `decoding.decode`.

        Source: MMHMR section 3.4.
        """
        c, codebook = self.network.config, fixed.tokenizer["codebook"]
        predict, context = self.predictor(params, images, cue)
        wanted = codebook if mean_codes else None
        decoded = decode(predict, len(images), c.tokens, c.codes, key, codebook=wanted, **options)
        codes = codebook[decoded.tokens] if decoded.mean_codes is None else decoded.mean_codes
        return self.pose(fixed, codes, context), decoded

    def draw(
        self,
        params: Any,
        fixed: Fixed,
        images: Float[Array, "batch size size 3"],
        cue: Float[Array, "batch 21 3"],
        key: Key[Array, ""],
        count: int,
        **options: Any,
    ) -> tuple[Recovered, Decoded]:
        """Reads pictures once and draws several poses of each, by `decoding.hypotheses`; otherwise as `recover`.

        Returns:
            What `recover` returns with an axis of `count` before all others.
        """
        c = self.network.config
        predict, context = self.predictor(params, images, cue)
        decoded = hypotheses(predict, len(images), c.tokens, c.codes, key, count, **options)
        codes = fixed.tokenizer["codebook"][decoded.tokens]
        return jax.vmap(lambda each: self.pose(fixed, each, context))(codes), decoded

    def predictor(
        self, params: Any, images: Float[Array, "batch size size 3"], cue: Float[Array, "batch 21 3"]
    ) -> tuple[Predict, Context]:
        """Encodes pictures, and gives what predicts their tokens as often as it is asked."""
        context = _run(self.network, params, "encode", images)

        def predict(tokens):
            return _run(self.network, params, "predict", tokens, cue, context)

        return predict, context

    def tokenize(self, fixed: Fixed, pose: Float[Array, "batch 16 3"]) -> Int[Array, "batch L"]:
        """The tokens of poses in axis-angle."""
        return pose_tokens(self.tokenizer, fixed.tokenizer, pose)

    def pose(self, fixed: Fixed, codes: Float[Array, "batch L D"], context: Context) -> Recovered:
        """The hands of codes, which may be means of codes."""
        rotations = code_rotations(self.tokenizer, fixed.tokenizer, codes)
        posed = pose_hands(fixed.hand, rotations, context.betas)
        return Recovered(rotations, context.betas, context.camera, posed)


def _run(module, params, method, *inputs):
    return module.apply({"params": params}, *inputs, method=method)
