"""Structure-guided modulation (SGMHand): depth features, modulated by the skeleton, steer a frozen UNet.

Read `SGM.__call__` from top to bottom with section "Structure-Guided Modulation Module" of the paper at hand.
"""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from handjax.adapters.hint_stem import HintStem
from handjax.diffusion.conv import Conv
from handjax.diffusion.layers import Dense
from handjax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class SGMConfig:
    """Sizes and switches of the module.

    Args:
        stem_channels: stages of the hint stems; the stride 2^(stages - 1) is the VAE's.
        unet_channels: channels of the UNet's levels, from latent resolution down to the mid block's.
        layers_per_block: residual blocks in each of the UNet's levels.
        fusion_channels: C_D = C_S = d where depth and skeleton meet, at twice the mid block's resolution.
        attention: structure-aware attention, Eq. 1-5.
        modulator: feature modulator, Eq. 6-9.
        levels: UNet levels whose skip connections also get a residual; 0 is latent resolution.

    Source:
        DECISIONS A1, A7.
    """

    stem_channels: tuple[int, ...] = (16, 32, 96, 256)
    unet_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    fusion_channels: int = 640
    attention: bool = True
    modulator: bool = True
    levels: tuple[int, ...] = ()

    def __post_init__(self):
        deepest = len(self.unet_channels) - 2
        if any(not 0 <= level <= deepest for level in self.levels):
            raise ConfigError(f"SGM levels {self.levels}: give 0 to {deepest}; the mid block has its own residual")

    @property
    def skips(self) -> tuple[tuple[int, int], ...]:
        """(level, channels) of every skip connection of the UNet in order."""
        skips = [(0, self.unet_channels[0])]
        for level, channels in enumerate(self.unet_channels):
            skips += [(level, channels)] * self.layers_per_block
            if level + 1 < len(self.unet_channels):
                skips.append((level + 1, channels))
        return tuple(skips)


@flax.struct.dataclass
class SGMOutput:
    """What the module adds to the UNet, and where it looks.

    Args:
        mid_residual: added to the mid block's output.
        down_residuals: added to the skip connections, zero where a level is not named; None without `levels`.
        attention_map: A of Eq. 10 in [0, 1], maximum 1.
    """

    mid_residual: Float[Array, "batch mid_height mid_width mid_channels"]
    down_residuals: tuple[Float[Array, "batch _h _w _c"], ...] | None
    attention_map: Float[Array, "batch height width"]

    @property
    def residuals(self) -> dict[str, Any]:
        """The residuals as keyword arguments of `UNet.__call__`."""
        return {"mid_residual": self.mid_residual, "down_residuals": self.down_residuals}


def relevance(
    depth_tokens: Float[Array, "batch n d"], skeleton_tokens: Float[Array, "batch n d"]
) -> Float[Array, "batch n n"]:
    """How much each depth token (row) attends to each skeleton token, in float32. Source: SGMHand Eq. 3."""
    logits = jnp.einsum("bqd,bkd->bqk", depth_tokens, skeleton_tokens, preferred_element_type=jnp.float32)
    return jax.nn.softmax(logits / math.sqrt(depth_tokens.shape[-1]), axis=-1)


def aggregate(
    relevance: Float[Array, "batch n n"], skeleton_tokens: Float[Array, "batch n d"]
) -> Float[Array, "batch n d"]:
    """Structure-guided information of each depth token. Source: SGMHand Eq. 4."""
    return jnp.einsum("bqk,bkd->bqd", relevance.astype(skeleton_tokens.dtype), skeleton_tokens)


def received_attention(
    relevance: Float[Array, "batch n n"], height: int, width: int
) -> Float[Array, "batch height width"]:
    """The attention each skeleton location receives: the mean over queries. Source: DECISIONS A3."""
    return relevance.mean(axis=1).reshape(-1, height, width)


def hint_energy(*features: Float[Array, "batch height width _"]) -> Float[Array, "batch height width"]:
    """The map A where no attention exists: the mean square over the channels of all hints. Source: DECISIONS A7."""
    return jnp.square(jnp.concatenate(features, axis=-1).astype(jnp.float32)).mean(axis=-1)


def divide_by_maximum(attention: Float[Array, "batch height width"]) -> Float[Array, "batch height width"]:
    """Scales each map to a maximum of 1, which takes no gradient. Source: DECISIONS A4."""
    maximum = attention.max(axis=(1, 2), keepdims=True)
    return attention / jax.lax.stop_gradient(jnp.maximum(maximum, jnp.finfo(jnp.float32).tiny))


def modulate(
    features: Float[Array, "batch height width c"], gamma: Float[Array, "batch c"], beta: Float[Array, "batch c"]
) -> Float[Array, "batch height width c"]:
    """Scales and shifts channels. Source: SGMHand Eq. 9."""
    return gamma[:, None, None] * features + beta[:, None, None]


class StructureAttention(nn.Module):
    """Depth features that have attended to the skeleton. Source: SGMHand Eq. 1-5."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, depth: Float[Array, "batch height width c"], skeleton: Float[Array, "batch height width c"]
    ) -> tuple[Float[Array, "batch height width c"], Float[Array, "batch n n"]]:
        """Returns the structure-aware depth features and the relevance matrix."""
        batch, height, width, channels = depth.shape
        depth_tokens = Conv(channels, kernel_size=1, dtype=self.dtype, name="phi_depth")(depth)  # Eq. 1
        skeleton_tokens = Conv(channels, kernel_size=1, dtype=self.dtype, name="phi_skeleton")(skeleton)  # Eq. 2
        depth_tokens = depth_tokens.reshape(batch, height * width, channels)
        skeleton_tokens = skeleton_tokens.reshape(batch, height * width, channels)
        weights = relevance(depth_tokens, skeleton_tokens)
        attended = aggregate(weights, skeleton_tokens).reshape(depth.shape)
        normalise = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm", use_fast_variance=False)
        return normalise(depth + attended), weights  # Eq. 5


class FeatureModulator(nn.Module):
    """Channels of the depth features scaled and shifted by the skeleton as a whole. Source: SGMHand Eq. 6-9."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, features: Float[Array, "batch height width c"], skeleton: Float[Array, "batch height width c"]
    ) -> Float[Array, "batch height width c"]:
        """Returns the modulated features."""
        channels = features.shape[-1]
        context = skeleton.mean(axis=(1, 2))  # Eq. 6
        gamma = nn.sigmoid(Dense(channels, dtype=self.dtype, name="gamma")(context))  # Eq. 7
        beta = Dense(channels, dtype=self.dtype, name="beta")(context)  # Eq. 8
        return modulate(features, gamma, beta)


class HintPyramid(nn.Module):
    """Features of one condition picture at the UNet's levels, from latent to twice the mid block's resolution."""

    config: SGMConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, picture: Float[Array, "batch height width 3"]) -> list[Float[Array, "batch _h _w _c"]]:
        """Returns one map a level; the last has `fusion_channels`."""
        config = self.config
        strides = len(config.unet_channels) - 2
        stem_channels = config.unet_channels[0] if strides else config.fusion_channels
        levels = [HintStem(config.stem_channels, stem_channels, dtype=self.dtype, name="stem")(picture)]
        for step in range(strides):
            down = Conv(config.fusion_channels, stride=2, dtype=self.dtype, name=f"down_{step}")
            levels.append(down(nn.silu(levels[-1])))
        return levels


class SGM(nn.Module):
    """Structure-guided modulation: depth and skeleton pictures in, residuals for a frozen UNet out.

    All outputs are exactly zero at initialisation: the output projections start at zero, and nothing else does,
    because gamma cannot amplify (DECISIONS A2).

    Source:
        SGMHand Eq. 1-9, DECISIONS A1-A4, A7.
    """

    config: SGMConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, depth: Float[Array, "batch height width 1"], skeleton: Float[Array, "batch height width 3"]
    ) -> SGMOutput:
        """Computes the residuals.

        Args:
            depth: as DECISIONS B3, in [0, 1].
            skeleton: as DECISIONS B3, in [0, 1].

        Returns:
            Residuals in `dtype` and the attention map in float32.
        """
        config = self.config
        grey = jnp.broadcast_to(depth, (*depth.shape[:-1], 3))  # so that ControlNet's depth stem fits
        depth_levels = HintPyramid(config, self.dtype, name="depth")(grey)
        skeleton_levels = HintPyramid(config, self.dtype, name="skeleton")(skeleton)
        depth_features, skeleton_features = depth_levels[-1], skeleton_levels[-1]
        _, height, width, _ = depth_features.shape

        if config.attention:
            attention = StructureAttention(self.dtype, name="attention")
            features, weights = attention(depth_features, skeleton_features)
            attention_map = received_attention(weights, height, width)
        else:
            # without either part of the module the hints are simply added
            features = depth_features if config.modulator else depth_features + skeleton_features
            attention_map = hint_energy(depth_features, skeleton_features)
        if config.modulator:
            features = FeatureModulator(self.dtype, name="modulator")(features, skeleton_features)

        mid_residual = self._zero_conv(config.unet_channels[-1], "output_mid", kernel_size=3, stride=2)(features)
        down_residuals = self._down_residuals(features, depth_levels, skeleton_levels) if config.levels else None
        return SGMOutput(mid_residual, down_residuals, divide_by_maximum(attention_map))

    def _down_residuals(self, features, depth_levels, skeleton_levels):
        """The modulated features, upsampled and joined with the hints' finer ones, for the named levels' skips."""
        config, joined = self.config, {}
        for level in config.levels:
            factor = 2 ** (len(depth_levels) - 1 - level)
            upsampled = jnp.repeat(jnp.repeat(features, factor, axis=1), factor, axis=2)
            stacked = jnp.concatenate([upsampled, depth_levels[level], skeleton_levels[level]], axis=-1)
            channels = config.unet_channels[level]
            joined[level] = nn.silu(Conv(channels, dtype=self.dtype, name=f"join_{level}")(stacked))
        batch, height, width, _ = depth_levels[0].shape
        return tuple(
            self._zero_conv(channels, f"output_skip_{skip}")(joined[level])
            if level in joined
            else jnp.zeros((batch, -(-height // 2**level), -(-width // 2**level), channels), self.dtype)
            for skip, (level, channels) in enumerate(config.skips)
        )

    def _zero_conv(self, features: int, name: str, kernel_size: int = 1, stride: int = 1) -> Conv:
        return Conv(features, kernel_size, stride, dtype=self.dtype, kernel_init=nn.initializers.zeros, name=name)
