"""ControlNet: a copy of the UNet's encoder that reads a condition picture and adds to the skip connections."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from handjax.adapters.hint_stem import HintStem
from handjax.adapters.structural_fusion import FORMS, QueriesKeys, fuse_outputs
from handjax.diffusion.blocks import embed_time, way_down
from handjax.diffusion.configs import TAESDConfig, UNetConfig, VAEConfig
from handjax.diffusion.conv import Conv
from handjax.diffusion.transformer import Attending
from handjax.errors import ConfigError

CLASS_NAME = "ControlNetModel"
# Keys of diffusers' ControlNetModel that the UNet does not have, at the values that are built in.
FIXED = {"controlnet_conditioning_channel_order": "rgb", "global_pool_conditions": False}
# Keys of a UNet that diffusers' ControlNetModel lacks, and would warn of.
NOT_IN_CONTROLNET = (
    *("up_block_types", "out_channels", "sample_size", "conv_in_kernel", "conv_out_kernel", "attention_type"),
    *("center_input_sample", "class_embeddings_concat", "dropout", "dual_cross_attention", "time_embedding_type"),
    *("resnet_out_scale_factor", "resnet_skip_time_act"),
)
# What only ours has, at the values that are a plain ControlNet.
NOT_IN_DIFFUSERS = {"structural_fusion": "none", "hand_alpha": 0.0}
CONDITION_KEY = "_condition"  # diffusers passes over keys that begin so, without a warning
COPIED = ("time_embedding", "conv_in", "down_blocks", "mid_block")
LEAST_GUESS_SCALE = 0.1
RGB = 3


class Residuals(TypedDict):
    """What is added to a UNet: keyword arguments of `UNet.__call__`."""

    mid_residual: Float[Array, "batch h w channels"]
    down_residuals: tuple[Float[Array, "batch _h _w _c"], ...]


@dataclasses.dataclass(frozen=True)
class ControlNetConfig:
    """Sizes of a ControlNet.

    Args:
        unet: of the UNet that it was copied from; its way up is not used.
        conditioning_embedding_out_channels: channels of the stages that read the picture.
        conditioning_channels: of the picture.
        structural_fusion: how the network's own self-attention refines what it gives (`fuse_outputs`).
        hand_alpha: bias on the words on hands that it was trained with, here and in the UNet (`hand_tokens`).
        condition: name of the pictures that it was trained to follow; "" is not known, as of those of others.

    Raises:
        ConfigError: no such fusion, or a negative bias.
    """

    unet: UNetConfig
    conditioning_embedding_out_channels: tuple[int, ...] = (16, 32, 96, 256)
    conditioning_channels: int = RGB
    structural_fusion: str = "none"
    hand_alpha: float = 0.0
    condition: str = ""

    def __post_init__(self):
        if self.structural_fusion not in FORMS:
            raise ConfigError(f"structural_fusion={self.structural_fusion!r} is unknown; use one of {FORMS}")
        if self.hand_alpha < 0:
            raise ConfigError(f"hand_alpha={self.hand_alpha} is negative; 0 does without, the paper's is 2.0")

    @classmethod
    def from_diffusers(cls, document: dict[str, Any]) -> "ControlNetConfig":
        """Reads config.json of a ControlNet. Raises WeightsError where it describes another architecture."""
        own = {field.name for field in dataclasses.fields(cls)} - {"unet", "condition"}
        rest = {key: value for key, value in document.items() if key not in own and FIXED.get(key, ...) != value}
        ways_up = [name.replace("Down", "Up") for name in reversed(document["down_block_types"])]
        given = {key: document[key] for key in own & document.keys()}
        stages = tuple(given.pop("conditioning_embedding_out_channels", cls.conditioning_embedding_out_channels))
        unet = UNetConfig.from_diffusers({**rest, "up_block_types": ways_up})
        return cls(unet, stages, **given, condition=str(document.get(CONDITION_KEY, "")))

    def fits(self, unet: UNetConfig, vae: VAEConfig | TAESDConfig) -> bool:
        """Whether it can be a UNet's, beside this autoencoder, and takes RGB."""
        names = ("block_out_channels", "layers_per_block", "cross_attention_dim", "down_block_types")
        return (
            all(getattr(self.unet, name) == getattr(unet, name) for name in names)
            and self.unet.in_channels == vae.latent_channels
            and 2 ** (len(self.conditioning_embedding_out_channels) - 1) == vae.factor
            and self.conditioning_channels == RGB
        )

    def to_diffusers(self) -> dict[str, Any]:
        """Writes config.json."""
        unet = {key: value for key, value in self.unet.to_diffusers().items() if key not in NOT_IN_CONTROLNET}
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "unet"}
        for name, absent in NOT_IN_DIFFUSERS.items():
            if own[name] == absent:
                del own[name]
        condition = own.pop("condition")
        told = {CONDITION_KEY: condition} if condition else {}
        return unet | FIXED | own | told | {"_class_name": CLASS_NAME}


class ControlNet(nn.Module):
    """Reads a condition picture beside the noisy latents; parameter names are those of diffusers' ControlNetModel.

    Args:
        config: sizes.
        dtype: of the computation; parameters are float32.

    Source:
        Zhang et al. 2023, section 3.
    """

    config: ControlNetConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        sample: Float[Array, "batch height width cin"],
        timesteps: Float[Array, " batch"],
        context: Float[Array, "batch words embed"],
        picture: Float[Array, "batch picture_height picture_width channels"],
        scale: float | Float[Array, ""] = 1.0,
        guess_mode: bool = False,
        word_bias: Float[Array, "batch words"] | None = None,
    ) -> Residuals:
        """Computes the residuals.

        Args:
            sample: noisy latents, without the mask of an inpainting UNet.
            timesteps: in [0, 1000), float32.
            context: text embedding.
            picture: the condition in [0, 1], at the size of the image.
            scale: of all residuals.
            guess_mode: weakens the finer levels, from 0.1 at the finest to 1 at the mid block.
            word_bias: as `UNet.__call__` takes it.
        """
        config, dtype = self.config.unet, self.dtype
        channels, stages = config.block_out_channels[0], self.config.conditioning_embedding_out_channels
        time, context = embed_time(config, timesteps, dtype), context.astype(dtype)
        hint = HintStem(stages, channels, zero_output=True, dtype=dtype, name="controlnet_cond_embedding")(picture)
        x = Conv(channels, dtype=dtype, name="conv_in")(sample) + hint
        layers: list[QueriesKeys] = []
        attending = Attending(word_bias, lambda q, k: layers.append((q, k)))
        x, skips = way_down(config, x, time, context, dtype, attending)
        *skips, x = fuse_outputs([*skips, x], layers, self.config.structural_fusion)

        def zero_conv(features, name):
            width = features.shape[-1]
            return Conv(width, 1, dtype=dtype, kernel_init=nn.initializers.zeros, name=name)(features)

        scales = scale * (jnp.logspace(jnp.log10(LEAST_GUESS_SCALE), 0, len(skips) + 1) if guess_mode else 1.0)
        scales = jnp.broadcast_to(jnp.asarray(scales, dtype), (len(skips) + 1,))
        down = [zero_conv(skip, f"controlnet_down_blocks_{i}") * scales[i] for i, skip in enumerate(skips)]
        return {"mid_residual": zero_conv(x, "controlnet_mid_block") * scales[-1], "down_residuals": tuple(down)}


def initial_controlnet(network: ControlNet, rng: PRNGKeyArray) -> dict[str, Any]:
    """Draws the parameters of a ControlNet; with `jax.eval_shape`, their shapes."""
    config = network.config.unet
    side = 2 ** (len(config.block_out_channels) - 1)
    pixels = side * 2 ** (len(network.config.conditioning_embedding_out_channels) - 1)
    inputs = (
        jnp.zeros((1, side, side, config.in_channels)),
        jnp.zeros(1),
        jnp.zeros((1, 1, config.cross_attention_dim)),
        jnp.zeros((1, pixels, pixels, network.config.conditioning_channels)),
    )
    return network.init(rng, *inputs)["params"]


def sum_residuals(residuals: Sequence[Residuals]) -> Residuals:
    """Adds what several ControlNets, each with its own scale, give for one UNet."""
    first, *others = residuals
    for other in others:
        first = {
            "mid_residual": first["mid_residual"] + other["mid_residual"],
            "down_residuals": tuple(map(jnp.add, first["down_residuals"], other["down_residuals"])),
        }
    return first


def copy_encoder(unet_params: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Starts a ControlNet from a UNet: time embedding, way down and mid block are the UNet's.

    Args:
        unet_params: of the UNet; an inpainting UNet's first convolution gives the channels of the noisy latents.
        params: of the new ControlNet, from `ControlNet.init`.

    Source:
        Zhang et al. 2023, section 3.2.
    """
    copied = {name: unet_params[name] for name in params if name.startswith(COPIED)}
    latents = params["conv_in"]["kernel"].shape[2]
    conv_in = {"kernel": copied["conv_in"]["kernel"][:, :, :latents], "bias": copied["conv_in"]["bias"]}
    return {**params, **copied, "conv_in": conv_in}
