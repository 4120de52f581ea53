"""From prompts to posed hands: what the transformer of texts and the tokenizer make together."""

import dataclasses
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, Int, Key

from handjax.diffusion.text_encoder import TextEncoder
from handjax.hand.model import HandModel
from handjax.recovery.decoding import Decoded, Predict, hypotheses
from handjax.recovery.text_network import TextMeshNetwork
from handjax.recovery.tokenizer import code_rotations
from handjax.recovery.vq_mano import VQMano


class TextFixed(NamedTuple):
    """What writing needs besides the transformer's parameters.

    Attributes:
        tokenizer: `Tokenizer.arrays`.
        hand: the hand model that the tokenizer knows.
        text: parameters of the text encoder.
    """

    tokenizer: dict[str, Any]
    hand: HandModel
    text: Any


@dataclasses.dataclass(frozen=True)
class PoseWriter:
    """The networks; their weights are arguments of every method.

    Args:
        network: the transformer.
        tokenizer: encoder and decoder of poses.
        text: CLIP's text encoder.
    """

    network: TextMeshNetwork
    tokenizer: VQMano
    text: TextEncoder

    def predictor(self, params: Any, fixed: TextFixed, ids: Int[Array, "batch words"]) -> Predict:
        """Reads prompts once, and gives what predicts their tokens as often as it is asked."""
        text = self.text.apply({"params": fixed.text}, ids)

        def predict(tokens):
            return self.network.apply({"params": params}, tokens, text)

        return predict

    def write(
        self,
        params: Any,
        fixed: TextFixed,
        ids: Int[Array, "batch words"],
        key: Key[Array, ""],
        count: int,
        **options: Any,
    ) -> tuple[Float[Array, "count batch 16 3 3"], Decoded]:
        """Draws poses of right hands for each prompt.

        Args:
            params: of the transformer.
            fixed: tokenizer, hand and text encoder.
            ids: of the prompts.
            key: of the draws.
            count: poses of a prompt.
            options: `share` and `iterations` of `decoding.hypotheses`.

        Source: MMHMR appendix D.
        """
        c = self.network.config
        predict = self.predictor(params, fixed, ids)
        decoded = hypotheses(predict, len(ids), c.tokens, c.codes, key, count, **options)
        codes = fixed.tokenizer["codebook"][decoded.tokens]
        return jax.vmap(lambda each: code_rotations(self.tokenizer, fixed.tokenizer, each))(codes), decoded
