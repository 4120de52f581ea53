"""Structure-guided modulation (SGMHand) in PyTorch: reads what handjax exports, needs torch and safetensors only.

    sgm = SGM.from_folder("exported")
    output = sgm(depth, skeleton)
    unet(..., mid_block_additional_residual=output.mid_residual, down_block_additional_residuals=output.down_residuals)

`unet` is diffusers' UNet2DConditionModel, which adds the residuals where SGM was trained to add them. It ignores a
residual of the mid block that comes alone, so those of the skip connections are zeros where SGM has none.
"""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional


class SGMOutput(NamedTuple):
    """What is added to the UNet, and the attention map [batch, height, width] with maximum 1."""

    mid_residual: torch.Tensor
    down_residuals: tuple[torch.Tensor, ...]
    attention_map: torch.Tensor


class HintStem(nn.Module):
    """A condition picture to latent resolution."""

    def __init__(self, channels, out_channels):
        super().__init__()
        self.conv_in = nn.Conv2d(3, channels[0], 3, padding=1)
        blocks = []
        for narrow, wide in pairwise(channels):
            blocks += [nn.Conv2d(narrow, narrow, 3, padding=1), nn.Conv2d(narrow, wide, 3, stride=2, padding=1)]
        self.blocks = nn.ModuleList(blocks)
        self.conv_out = nn.Conv2d(channels[-1], out_channels, 3, padding=1)

    def forward(self, picture):
        hidden = functional.silu(self.conv_in(picture))
        for block in self.blocks:
            hidden = functional.silu(block(hidden))
        return self.conv_out(hidden)


class HintPyramid(nn.Module):
    """Features of a condition picture at the UNet's levels, down to twice the mid block's resolution."""

    def __init__(self, config):
        super().__init__()
        width, strides = config["fusion_channels"], len(config["unet_channels"]) - 2
        stem_width = config["unet_channels"][0] if strides else width
        self.stem = HintStem(config["stem_channels"], stem_width)
        widths = [stem_width] + [width] * strides
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.widths = widths

    def forward(self, picture):
        levels = [self.stem(picture)]
        for down in self.down:
            levels.append(down(functional.silu(levels[-1])))
        return levels


class StructureAttention(nn.Module):
    """Depth attends to the skeleton (Eq. 1-5 of the paper)."""

    def __init__(self, channels):
        super().__init__()
        self.phi_depth = nn.Conv2d(channels, channels, 1)
        self.phi_skeleton = nn.Conv2d(channels, channels, 1)
        self.norm = nn.LayerNorm(channels, eps=1e-5)

    def forward(self, depth, skeleton):
        queries = self.phi_depth(depth).flatten(2).transpose(1, 2)
        keys = self.phi_skeleton(skeleton).flatten(2).transpose(1, 2)
        relevance = torch.softmax((queries @ keys.transpose(1, 2)).float() / math.sqrt(depth.shape[1]), dim=-1)
        attended = relevance.to(keys.dtype) @ keys
        normed = self.norm(depth.flatten(2).transpose(1, 2) + attended)
        return normed.transpose(1, 2).reshape(depth.shape), relevance


class FeatureModulator(nn.Module):
    """The skeleton as a whole scales and shifts channels (Eq. 6-9 of the paper)."""

    def __init__(self, channels):
        super().__init__()
        self.gamma = nn.Linear(channels, channels)
        self.beta = nn.Linear(channels, channels)

    def forward(self, features, skeleton):
        context = skeleton.mean(dim=(2, 3))
        gamma = torch.sigmoid(self.gamma(context))
        return gamma[:, :, None, None] * features + self.beta(context)[:, :, None, None]


class SGM(nn.Module):
    """Structure-guided modulation.

    Args:
        config: the document config.json.
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        channels, width = config["unet_channels"], config["fusion_channels"]
        self.depth, self.skeleton = HintPyramid(config), HintPyramid(config)
        self.attention = StructureAttention(width) if config["attention"] else None
        self.modulator = FeatureModulator(width) if config["modulator"] else None
        self.output_mid = nn.Conv2d(width, channels[-1], 3, stride=2, padding=1)
        self.skips = self._skips()
        levels = config["levels"]
        self.join = nn.ModuleDict(
            {str(i): nn.Conv2d(width + 2 * self.depth.widths[i], channels[i], 3, padding=1) for i in levels}
        )
        self.output_skip = nn.ModuleDict(
            {str(n): nn.Conv2d(channels[i], c, 1) for n, (i, c) in enumerate(self.skips) if i in levels}
        )

    def _skips(self):
        channels, blocks = self.config["unet_channels"], self.config["layers_per_block"]
        skips = [(0, channels[0])]
        for level, width in enumerate(channels):
            skips += [(level, width)] * blocks
            if level + 1 < len(channels):
                skips.append((level + 1, width))
        return skips

    @classmethod
    def from_folder(cls, folder):
        """Reads config.json and sgm.safetensors."""
        sgm = cls(json.loads((Path(folder) / "config.json").read_text()))
        sgm.load_state_dict(load_file(Path(folder) / "sgm.safetensors"))
        return sgm.eval()

    def forward(self, depth, skeleton):
        """Computes the residuals.

        Args:
            depth: [batch, 1, height, width], nearest 1, farthest 0.2, background 0.
            skeleton: [batch, 3, height, width] in [0, 1].
        """
        depth_levels, skeleton_levels = self.depth(depth.expand(-1, 3, -1, -1)), self.skeleton(skeleton)
        features, skeleton_features = depth_levels[-1], skeleton_levels[-1]
        batch, _, height, width = features.shape
        if self.attention is not None:
            features, relevance = self.attention(features, skeleton_features)
            attention_map = relevance.mean(dim=1).reshape(batch, height, width)
        else:
            attention_map = torch.cat([features, skeleton_features], dim=1).float().square().mean(dim=1)
            features = features if self.modulator is not None else features + skeleton_features
        if self.modulator is not None:
            features = self.modulator(features, skeleton_features)
        attention_map = attention_map / attention_map.amax(dim=(1, 2), keepdim=True)
        return SGMOutput(
            self.output_mid(features), self._down_residuals(features, depth_levels, skeleton_levels), attention_map
        )

    def _down_residuals(self, features, depth_levels, skeleton_levels):
        joined = {}
        for level in self.config["levels"]:
            upsampled = functional.interpolate(features, scale_factor=2 ** (len(depth_levels) - 1 - level))
            stacked = torch.cat([upsampled, depth_levels[level], skeleton_levels[level]], dim=1)
            joined[level] = functional.silu(self.join[str(level)](stacked))
        batch, _, height, width = depth_levels[0].shape
        return tuple(
            self.output_skip[str(n)](joined[level])
            if level in joined
            else features.new_zeros(batch, channels, -(-height // 2**level), -(-width // 2**level))
            for n, (level, channels) in enumerate(self.skips)
        )
