"""Names and layouts of Stable Diffusion's first code base (LDM), in which single-file checkpoints are written.

A table from our names (those of diffusers and transformers) to LDM's is computed from the names of a network, whose
depths the numbering depends on; it is read in either direction. Sources: CompVis/latent-diffusion and
mlfoundations/open_clip.
"""

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import numpy as np

from handjax.errors import WeightsError

Network = Literal["unet", "vae", "clip", "open_clip", "controlnet"]
"""What is written: "clip" is the text encoder of Stable Diffusion 1.x, "open_clip" that of 2.x."""

PREFIXES: dict[str, str] = {
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "clip": "cond_stage_model.transformer.text_model.",
    "open_clip": "cond_stage_model.model.",
    "controlnet": "control_model.",
}
UNET_NAMES = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
CONTROLNET_NAMES = {
    "controlnet_mid_block": "middle_block_out.0",
    "controlnet_cond_embedding.conv_in": "input_hint_block.0",
}
RESNET_NAMES = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_NAMES = {
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.attentions.0": "mid.attn_1",
    "mid_block.resnets.1": "mid.block_2",
    "down_blocks": "down",
    "up_blocks": "up",
    "resnets": "block",
    "conv_shortcut": "nin_shortcut",
    "conv_norm_out": "norm_out",
    "downsamplers.0": "downsample",
    "upsamplers.0": "upsample",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
OPEN_CLIP_NAMES = {
    "embeddings.token_embedding": "token_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
    "encoder.layers": "transformer.resblocks",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn": "attn",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "final_layer_norm": "ln_final",
}
# OpenCLIP keeps the three projections of a layer in one tensor, in this order.
PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def ldm_names(network: Network, names: Iterable[str]) -> dict[str, str]:
    """Gives LDM's name, without the network's prefix, of every tensor of a network."""
    names = list(names)
    rename: Callable[[str], str]
    if network in ("unet", "controlnet"):
        attending = {match[1] for name in names if (match := re.match(r"up_blocks\.(\d+)\.attentions\.", name))}
        layers = _count(names, r"down_blocks\.0\.resnets\.(\d+)\.")
        rename = functools.partial(_unet_name, layers=layers, attending=attending)
        if network == "controlnet":
            stages = _count(names, r"controlnet_cond_embedding\.blocks\.(\d+)\.")
            rename = functools.partial(_controlnet_name, stages=stages, unet_name=rename)
    elif network == "vae":
        rename = functools.partial(_vae_name, levels=_count(names, r"decoder\.up_blocks\.(\d+)\."))
    else:
        rename = functools.partial(_replace, table=OPEN_CLIP_NAMES if network == "open_clip" else {})
    return {name: rename(name) for name in names}


def to_ldm(network: Network, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Gives the LDM state dict, prefix included, of a network's state dict in our names."""
    names = ldm_names(network, state)
    renamed = {names[name]: value for name, value in state.items()}
    if network == "vae":  # LDM's attention projects with 1×1 convolutions.
        renamed = {n: v[:, :, None, None] if ".mid.attn_1." in n and v.ndim == 2 else v for n, v in renamed.items()}
    if network == "open_clip":
        renamed = _merge_projections(renamed)
    return {PREFIXES[network] + name: value for name, value in renamed.items()}


def from_ldm(network: Network, state: Mapping[str, np.ndarray], ndims: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Gives the state dict in our names: the inverse of `to_ldm`, bit for bit.

    Args:
        network: what is read.
        state: values by LDM's names without the prefix; names that are ours already stay.
        ndims: numbers of dimensions of the tensors that the model needs, by our names.

    Returns:
        Values by our names. What has no counterpart keeps its name, except what OpenCLIP has for other uses: its
        last layers, of which Stable Diffusion leaves out one, and the way into the space it shares with pictures.
    """
    if network == "open_clip":
        unused = ("text_projection", "logit_scale", "attn_mask")
        layers = _count(ndims, r"encoder\.layers\.(\d+)\.")
        state = {name: value for name, value in state.items() if name not in unused and _layer(name) < layers}
        state = _split_projections(state)
    ours = {ldm: name for name, ldm in ldm_names(network, ndims).items()}
    renamed = {ours.get(name, name): value for name, value in state.items()}
    return {
        name: value[..., 0, 0] if ndims.get(name) == 2 and value.shape[2:] == (1, 1) else value
        for name, value in renamed.items()
    }


def _count(names: Iterable[str], pattern: str) -> int:
    return 1 + max((int(match[1]) for name in names if (match := re.match(pattern, name))), default=-1)


def _replace(name: str, table: Mapping[str, str]) -> str:
    """Replaces whole components of a dotted name."""
    for ours, ldm in table.items():
        name = re.sub(rf"(?<![^.]){re.escape(ours)}(?![^.])", ldm, name)
    return name


def _unet_name(name: str, layers: int, attending: set[str]) -> str:
    """LDM numbers all blocks of the way down, then all of the way up; what a block holds is numbered inside it."""
    match = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", name)
    if match is None:
        table = RESNET_NAMES if name.startswith("mid_block.resnets") else {}
        return _replace(_replace(name, table), UNET_NAMES)
    direction, level, kind, position, rest = match.groups()
    first = int(level) * (layers + 1)
    if kind == "downsamplers":
        return f"input_blocks.{first + layers + 1}.0.{rest.replace('conv', 'op')}"
    if kind == "upsamplers":
        return f"output_blocks.{first + layers}.{2 if level in attending else 1}.{rest}"
    block = (
        f"input_blocks.{first + 1 + int(position)}" if direction == "down" else f"output_blocks.{first + int(position)}"
    )
    return f"{block}.1.{rest}" if kind == "attentions" else f"{block}.0.{_replace(rest, RESNET_NAMES)}"


def _controlnet_name(name: str, stages: int, unet_name: Callable[[str], str]) -> str:
    """LDM numbers the layers that read the picture with the activations between them."""
    stem = re.match(r"controlnet_cond_embedding\.(?:blocks\.(\d+)|conv_out)\.(.+)", name)
    if stem is not None:
        layer = stages if stem[1] is None else int(stem[1])
        return f"input_hint_block.{2 * (layer + 1)}.{stem[2]}"
    name = re.sub(r"^controlnet_down_blocks\.(\d+)", r"zero_convs.\1.0", name)
    return unet_name(_replace(name, CONTROLNET_NAMES))


def _vae_name(name: str, levels: int) -> str:
    """LDM counts the decoder's levels from the finest too."""
    name = re.sub(r"(?<=up_blocks\.)\d+", lambda match: str(levels - 1 - int(match[0])), name)
    return _replace(name, VAE_NAMES)


def _layer(name: str) -> int:
    match = re.match(r"transformer\.resblocks\.(\d+)\.", name)
    return int(match[1]) if match else -1


def _merge_projections(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`attn.q_proj.weight` and the two beside it become the rows of `attn.in_proj_weight`; so do biases."""
    merged = {}
    for name, value in state.items():
        module, _, rest = name.partition(".q_proj.")
        if rest:
            parts = [state[f"{module}.{projection}.{rest}"] for projection in PROJECTIONS]
            merged[f"{module}.in_proj_{rest}"] = np.concatenate(parts)
        elif not any(f".{projection}." in name for projection in PROJECTIONS):
            merged[name] = value
    return merged


def _split_projections(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    split: dict[str, np.ndarray] = {}
    for name, value in state.items():
        module, _, rest = name.partition(".in_proj_")
        if rest:
            if value.ndim == 0 or len(value) % len(PROJECTIONS):
                raise WeightsError(f"{name} of shape {value.shape} does not hold three projections; use another file")
            parts = zip(PROJECTIONS, np.split(value, len(PROJECTIONS)), strict=True)
            split |= {f"{module}.{projection}.{rest}": part for projection, part in parts}
        else:
            split[name] = value
    return split
