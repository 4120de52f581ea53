"""Networks beside PyTorch's, with the same random weights and inputs: what parity, benchmarks and tests compare.

PyTorch is imported when it is needed, since only comparisons need it.
"""

import dataclasses
import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import numpy as np
from jaxtyping import Float

from handjax.adapters.controlnet import ControlNet, ControlNetConfig
from handjax.diffusion.configs import TextConfig, UNetConfig, VAEConfig
from handjax.diffusion.text_encoder import TextEncoder
from handjax.diffusion.unet import UNet
from handjax.diffusion.vae import VAE
from handjax.errors import BackendError
from handjax.weights.names import to_flax

Document = dict[str, Any]
Arrays = tuple[np.ndarray, ...]

SD1_UNET: Document = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
SD1_CONTROLNET: Document = {
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
}
SD2_UNET: Document = {
    "sample_size": 64,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}
SD_VAE: Document = {
    "sample_size": 512,
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
CLIP_L: Document = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
OPEN_CLIP_H: Document = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
}

TINY_UNET_1: Document = {
    "sample_size": 8,
    "block_out_channels": (32, 64, 96),
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 2,
    "attention_head_dim": 4,
    "cross_attention_dim": 24,
    "norm_num_groups": 8,
}
TINY_UNET_2: Document = {
    **TINY_UNET_1,
    "layers_per_block": 1,
    "attention_head_dim": (2, 4, 8),
    "use_linear_projection": True,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
}
TINY_CONTROLNET: Document = {
    "conditioning_embedding_out_channels": (8, 16, 24),
    **{key: value for key, value in TINY_UNET_1.items() if key not in ("sample_size", "up_block_types")},
}
TINY_VAE: Document = {
    "sample_size": 32,
    "block_out_channels": (16, 32, 48),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "layers_per_block": 2,
    "norm_num_groups": 8,
}
TINY_TEXT: Document = {
    "vocab_size": 99,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 20,
    "bos_token_id": 97,
    "eos_token_id": 98,
}


@functools.cache
def load_torch() -> Any:
    """PyTorch, computing in float32 to the letter.

    Raises:
        BackendError: it is not installed.
    """
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise BackendError("this compares with PyTorch, which is not installed; pip install -e '.[torch]'") from error
    torch.backends.cudnn.allow_tf32 = False
    return torch


@dataclasses.dataclass(frozen=True)
class Part:
    """A network on both sides.

    Args:
        make_ours: our module.
        network: class of PyTorch's, after the package it is in.
        document: its configuration.
        draw: inputs for a batch size, NHWC.
        call_peer: PyTorch's outputs, in the order of the leaves of ours.
        method: of our module.
    """

    make_ours: Callable[[], nn.Module]
    network: str
    document: Document
    draw: Callable[[int], Arrays]
    call_peer: Callable[..., Sequence[Any]]
    method: str = "__call__"

    def make_peer(self) -> Any:
        """PyTorch's network with weights as it initialises them."""
        package, _, name = self.network.partition(".")
        kind = getattr(importlib.import_module(package), name)
        return kind(kind.config_class(**self.document)) if package == "transformers" else kind(**self.document)

    def run_peer(self, peer: Any, inputs: Arrays) -> list[np.ndarray]:
        """PyTorch's outputs, NHWC."""
        with load_torch().no_grad():
            return [to_numpy(output) for output in self.call_peer(peer, *to_tensors(peer, inputs))]


def unet_part(document: Document, words: int = 77) -> Part:
    """A denoising UNet at the size of its config."""
    config = UNetConfig(**document)

    def draw(batch: int) -> Arrays:
        size = (config.sample_size, config.sample_size, config.in_channels)
        return _normal(batch, *size), _timesteps(batch), _normal(batch, words, config.cross_attention_dim)

    return Part(
        make_ours=lambda: UNet(config),
        network="diffusers.UNet2DConditionModel",
        document=document,
        draw=draw,
        call_peer=lambda peer, *inputs: [peer(*inputs).sample],
    )


def controlnet_part(document: Document, size: int, words: int = 77) -> Part:
    """A ControlNet for latents of `size`²."""
    config = ControlNetConfig.from_diffusers(document)
    factor = 2 ** (len(config.conditioning_embedding_out_channels) - 1)

    def draw(batch: int) -> Arrays:
        latents = _normal(batch, size, size, config.unet.in_channels)
        picture = _normal(batch, factor * size, factor * size, config.conditioning_channels)
        return latents, _timesteps(batch), _normal(batch, words, config.unet.cross_attention_dim), picture

    def call_peer(peer: Any, *inputs: Any) -> list[Any]:
        output = peer(*inputs)
        return [*output.down_block_res_samples, output.mid_block_res_sample]

    return Part(
        make_ours=lambda: ControlNet(config),
        network="diffusers.ControlNetModel",
        document=document,
        draw=draw,
        call_peer=call_peer,
    )


def vae_part(document: Document, method: str) -> Part:
    """The autoencoder's "encode" (mean and log-variance) or "decode"."""
    config = VAEConfig.from_diffusers(document)

    def draw(batch: int) -> Arrays:
        factor, channels = (1, config.in_channels) if method == "encode" else (config.factor, config.latent_channels)
        side = config.sample_size // factor
        return (_normal(batch, side, side, channels),)

    def call_peer(peer: Any, array: Any) -> list[Any]:
        if method == "decode":
            return [peer.decode(array).sample]
        posterior = peer.encode(array).latent_dist
        return [posterior.mean, posterior.logvar]

    return Part(
        make_ours=lambda: VAE(config),
        network="diffusers.AutoencoderKL",
        document=document,
        draw=draw,
        call_peer=call_peer,
        method=method,
    )


def text_part(document: Document) -> Part:
    """CLIP's text encoder on full prompts."""
    config = TextConfig.from_diffusers(document)

    def draw(batch: int) -> Arrays:
        shape = (batch, config.max_position_embeddings)
        return (np.random.default_rng(0).integers(0, config.vocab_size, shape, np.int32),)

    return Part(
        make_ours=lambda: TextEncoder(config),
        network="transformers.CLIPTextModel",
        document=document,
        draw=draw,
        call_peer=lambda peer, ids: [peer(ids).last_hidden_state],
    )


FULL: dict[str, Part] = {
    "unet_inpainting": unet_part({**SD1_UNET, "in_channels": 9}),
    "unet": unet_part(SD1_UNET),
    "vae_encoder": vae_part(SD_VAE, "encode"),
    "vae_decoder": vae_part(SD_VAE, "decode"),
    "text_encoder": text_part(CLIP_L),
    "controlnet": controlnet_part(SD1_CONTROLNET, size=64),
    "unet_sd2": unet_part(SD2_UNET),
    "unet_sd2_inpainting": unet_part({**SD2_UNET, "in_channels": 9}),
    "text_encoder_sd2": text_part(OPEN_CLIP_H),
}
TINY: dict[str, Part] = {
    "unet_inpainting": unet_part({**TINY_UNET_1, "in_channels": 9}, words=7),
    "unet": unet_part(TINY_UNET_1, words=7),
    "vae_encoder": vae_part(TINY_VAE, "encode"),
    "vae_decoder": vae_part(TINY_VAE, "decode"),
    "text_encoder": text_part(TINY_TEXT),
    "controlnet": controlnet_part(TINY_CONTROLNET, size=8, words=7),
    "unet_sd2": unet_part(TINY_UNET_2, words=7),
    "unet_sd2_inpainting": unet_part({**TINY_UNET_2, "in_channels": 9}, words=7),
    "text_encoder_sd2": text_part({**TINY_TEXT, "hidden_act": "gelu"}),
}
SIZES = {"full": FULL, "tiny": TINY}


def redraw(network: Any, seed: int = 0) -> Any:
    """Draws all weights anew: norms, biases and zero-initialised layers too, or a branch could be wrong unseen."""
    torch = load_torch()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim <= 1:
                parameter.copy_(0.2 * noise + (1.0 if name.endswith("weight") else 0.0))
            else:
                parameter.copy_(noise / np.sqrt(parameter[0].numel()))
    return network.eval()


def flax_variables(network: Any) -> dict[str, Any]:
    """The Flax variables with the weights of a PyTorch network, as views of them where it lies in main memory."""
    return {"params": to_flax((name, value.cpu().numpy()) for name, value in network.state_dict().items())}


def to_tensors(network: Any, arrays: Arrays) -> list[Any]:
    """Our inputs as tensors where `network` is: pictures NCHW, integers 64 bits wide."""
    device = next(network.parameters()).device
    tensors = [to_nchw(array) if array.ndim == 4 else load_torch().tensor(array.tolist()) for array in arrays]
    return [tensor.to(device) for tensor in tensors]


def to_numpy(tensor: Any) -> np.ndarray:
    """A tensor as an array of its own, pictures NHWC."""
    return np.array(to_nhwc(tensor) if tensor.ndim == 4 else tensor.detach().cpu().numpy())


def to_nchw(array: Any) -> Any:
    """Pictures as a tensor."""
    return load_torch().from_numpy(np.array(array).transpose(0, 3, 1, 2).copy())


def to_nhwc(tensor: Any) -> Float[np.ndarray, "batch height width channels"]:
    """A tensor's pictures."""
    return tensor.detach().cpu().numpy().transpose(0, 2, 3, 1)


def _normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape, np.float32)


def _timesteps(batch: int) -> Float[np.ndarray, " batch"]:
    return np.linspace(981, 3, batch, dtype=np.float32)
