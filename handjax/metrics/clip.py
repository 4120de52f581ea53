"""CLIP: how near pictures are to what their prompts say."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from handjax.diffusion.configs import TextConfig, VisionConfig
from handjax.diffusion.folder import read_json, reading_settings
from handjax.diffusion.text_encoder import Encoder, TextEncoder, layer_norm
from handjax.diffusion.text_model import clip_section
from handjax.diffusion.tokenizer import Tokenizer
from handjax.images import resize
from handjax.weights.files import find_weights, read_weights
from handjax.weights.names import check_tree, to_flax

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
"""Of the pictures that OpenAI trained CLIP on, in [0, 1]."""
SCALE = 100.0
BATCH = 16


class ImageEncoder(nn.Module):
    """Pictures to one embedding each; parameter names are those of transformers' CLIPVisionModel."""

    config: VisionConfig

    @nn.compact
    def __call__(self, images: Float[Array, "batch size size 3"]) -> Float[Array, "batch channels"]:
        """Gives the first token after the last norm, for pictures less `MEAN`, over `DEVIATION`."""
        x = _PatchEmbeddings(self.config, name="embeddings")(images)
        x = layer_norm(self.config, jnp.float32, "pre_layrnorm")(x)  # the published spelling
        x = Encoder(self.config, causal=False, name="encoder")(x)
        return layer_norm(self.config, jnp.float32, "post_layernorm")(x[:, 0])


class _PatchEmbeddings(nn.Module):
    config: VisionConfig

    @nn.compact
    def __call__(self, images):
        width, patch = self.config.hidden_size, (self.config.patch_size,) * 2
        cells = nn.Conv(width, patch, patch, padding="VALID", use_bias=False, name="patch_embedding")(images)
        cells = cells.reshape(len(images), -1, width)
        first = self.param("class_embedding", nn.initializers.normal(0.02), (width,))
        x = jnp.concatenate([jnp.broadcast_to(first, (len(images), 1, width)), cells], axis=1)
        return x + nn.Embed(x.shape[1], width, name="position_embedding")(jnp.arange(x.shape[1]))


class CLIP(nn.Module):
    """Both encoders and their projections; parameter names are those of transformers' CLIPModel."""

    text: TextConfig
    vision: VisionConfig
    projection: int

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch size size 3"],
        ids: Int[Array, "batch tokens"],
        ends: Int[Array, " batch"],
    ) -> Float[Array, " batch"]:
        """Cosines of pictures and prompts, pair by pair.

        Args:
            images: as `prepare` makes them.
            ids: of the prompts.
            ends: place of each prompt's end token, whose state stands for the prompt.
        """
        pictures = nn.Dense(self.projection, use_bias=False, name="visual_projection")(
            ImageEncoder(self.vision, name="vision_model")(images)
        )
        states = TextEncoder(self.text, name="text_model")(ids)
        pooled = jnp.take_along_axis(states, ends[:, None, None], axis=1)[:, 0]
        prompts = nn.Dense(self.projection, use_bias=False, name="text_projection")(pooled)
        norms = jnp.linalg.norm(pictures, axis=-1) * jnp.linalg.norm(prompts, axis=-1)
        return (pictures * prompts).sum(axis=-1) / norms


@dataclasses.dataclass(frozen=True)
class ClipScorer:
    """CLIP with its weights and its tokenizer."""

    network: CLIP
    params: Mapping[str, Any]
    tokenizer: Tokenizer

    @classmethod
    def load(cls, folder: Path) -> "ClipScorer":
        """Reads a folder in transformers' layout, such as openai/clip-vit-base-patch16.

        Raises:
            WeightsError: a file is missing, damaged or of another network.
        """
        document = read_json(folder / "config.json")
        with reading_settings(folder / "config.json"):
            text = TextConfig.from_diffusers(clip_section(document, "text_config"))
            vision = VisionConfig.from_transformers(clip_section(document, "vision_config"))
            network = CLIP(text, vision, document.get("projection_dim", 512))
        path = find_weights(folder, "model", "pytorch_model")
        tensors = ((n, v.astype(np.float32)) for n, v in read_weights(path) if n != "logit_scale")
        params = to_flax(tensors)
        check_tree(params, _shapes(network), str(path))
        return cls(network, jax.device_put(params), Tokenizer(str(folder), text.max_position_embeddings))

    def __call__(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], prompts: Sequence[str]) -> Float[np.ndarray, " n"]:
        """CLIP score of each picture: 100 times its cosine with its prompt, at least 0.

        Args:
            images: of any size.
            prompts: as many; what is beyond the tokenizer's length is cut off (`cut`).

        Raises:
            WeightsError: the tokenizer is missing or damaged.

        Source: Hessel et al. 2021, "CLIPScore", with torchmetrics' factor of 100 in place of 2.5.
        """
        ids = self.tokenizer(prompts)
        ends = (ids == self.tokenizer.end).argmax(axis=1).astype(np.int32)
        pictures = np.stack([prepare(image, self.network.vision.image_size) for image in images])
        scores = []
        for start in range(0, len(images), BATCH):
            part = [values[start : start + BATCH] for values in (pictures, ids, ends)]
            missing = BATCH - len(part[0])  # filled up, so that there is one program
            filled = [np.concatenate([values, np.repeat(values[:1], missing, axis=0)]) for values in part]
            scores.append(np.asarray(_cosines(self.network, self.params, *filled))[: len(part[0])])
        return np.maximum(SCALE * np.concatenate(scores), 0)

    def cut(self, prompts: Sequence[str]) -> list[bool]:
        """Whether a prompt is longer than the text encoder can read; start and end take two places."""
        return [len(self.tokenizer.bare(prompt)) + 2 > self.tokenizer.length for prompt in prompts]


def prepare(image: UInt8[np.ndarray, "height width 3"], size: int) -> Float[np.ndarray, "size size 3"]:
    """Brings a picture's shorter side to `size`, cuts out the middle and normalises it, as transformers' processor."""
    height, width = image.shape[:2]
    short = min(height, width)
    new_width, new_height = size * width // short, size * height // short
    resized = resize(image, (new_height, new_width))
    top, left = (new_height - size) // 2, (new_width - size) // 2
    return (resized[top : top + size, left : left + size] / np.float32(255) - MEAN) / DEVIATION


def _shapes(network: CLIP) -> Any:
    size, tokens = network.vision.image_size, network.text.max_position_embeddings
    arguments = (jnp.zeros((1, size, size, 3)), jnp.zeros((1, tokens), jnp.int32), jnp.zeros(1, jnp.int32))
    return jax.eval_shape(network.init, jax.random.key(0), *arguments)["params"]


@jax.jit(static_argnums=0)
def _cosines(network: CLIP, params: Any, images: Any, ids: Any, ends: Any) -> Any:
    with jax.default_matmul_precision("float32"):
        return network.apply({"params": params}, images, ids, ends)
