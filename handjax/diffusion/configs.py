"""Sizes of the networks, read from and written to the config.json files of a diffusers folder."""

import dataclasses
from typing import Any

from handjax.errors import WeightsError

# Keys of diffusers that change the arithmetic and that Stable Diffusion 1.x and 2.x leave at these values.
UNET_FIXED = {
    "act_fn": "silu",
    "addition_embed_type_num_heads": 64,
    "attention_type": "default",
    "center_input_sample": False,
    "class_embeddings_concat": False,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "downsample_padding": 1,
    "dropout": 0.0,
    "dual_cross_attention": False,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "only_cross_attention": False,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "default",
    "time_embedding_type": "positional",
}
VAE_FIXED = {
    "act_fn": "silu",
    "mid_block_add_attention": True,
    "use_post_quant_conv": True,
    "use_quant_conv": True,
}
TAESD_CLASS = "AutoencoderTiny"
TAESD_FIXED = {
    "act_fn": "relu",
    "force_upcast": False,
    "latent_magnitude": 3,
    "latent_shift": 0.5,
    "scaling_factor": 1.0,
    "shift_factor": 0.0,
    "upsample_fn": "nearest",
    "upsampling_scaling_factor": 2,
}
DOWN_BLOCKS = ("CrossAttnDownBlock2D", "DownBlock2D")
UP_BLOCKS = ("CrossAttnUpBlock2D", "UpBlock2D")
TEXT_MODELS = ("clip_text_model", "clip")
ACTIVATIONS = ("quick_gelu", "gelu")


def _settings(document: dict[str, Any]) -> dict[str, Any]:
    """The keys that are set, lists as tuples."""
    given = {key: value for key, value in document.items() if value is not None and not key.startswith("_")}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}


def _select_fields(cls: type, document: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(cls)}
    return {key: value for key, value in _settings(document).items() if key in names}


def _check_rest(cls: type, document: dict[str, Any], fixed: dict[str, Any], class_name: str) -> None:
    """Refuses every key that is neither a field of `cls` nor at the value that is built in."""
    names = {field.name for field in dataclasses.fields(cls)}
    for key, value in _settings(document).items():
        if key not in names and (key not in fixed or value != fixed[key]):
            raise WeightsError(
                f"{class_name} config: {key}={value!r} is not supported; use Stable Diffusion 1.x or 2.x"
            )


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """Sizes of the denoising UNet; names and defaults are those of diffusers' UNet2DConditionModel.

    Args:
        sample_size: height and width of the latents that the weights were trained at.
        in_channels: 4 for text-to-image, 9 for inpainting (DECISIONS B1).
        down_block_types: one of DOWN_BLOCKS a level, from the finest.
        up_block_types: one of UP_BLOCKS a level, from the coarsest.
        block_out_channels: channels a level, from the finest.
        attention_head_dim: number of heads (despite the name, as in diffusers), one for all levels or one a level.
        cross_attention_dim: channels of the text embedding.
        upcast_attention: kept for the way back; attention's softmax is always float32 here.
    """

    sample_size: int = 64
    in_channels: int = 4
    out_channels: int = 4
    down_block_types: tuple[str, ...] = (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D")
    up_block_types: tuple[str, ...] = ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3)
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    transformer_layers_per_block: int = 1
    attention_head_dim: int | tuple[int, ...] = 8
    cross_attention_dim: int = 1280
    use_linear_projection: bool = False
    upcast_attention: bool = False
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    flip_sin_to_cos: bool = True
    freq_shift: int = 0

    def __post_init__(self):
        levels = len(self.block_out_channels)
        for key, supported in (("down_block_types", DOWN_BLOCKS), ("up_block_types", UP_BLOCKS)):
            blocks = getattr(self, key)
            if len(blocks) != levels or not set(blocks) <= set(supported):
                raise WeightsError(f"UNet config: {key}={blocks} is not supported; give {levels} of {supported}")
        if isinstance(self.attention_head_dim, tuple) and len(self.attention_head_dim) != levels:
            raise WeightsError(f"UNet config: attention_head_dim={self.attention_head_dim}: give one or {levels}")
        if not isinstance(self.layers_per_block, int) or not isinstance(self.transformer_layers_per_block, int):
            raise WeightsError("UNet config: layers_per_block, transformer_layers_per_block: give one number for all")

    def heads(self, level: int) -> int:
        """Number of attention heads at `level`, 0 the finest."""
        return self.attention_head_dim[level] if isinstance(self.attention_head_dim, tuple) else self.attention_head_dim

    @property
    def time_embed_dim(self) -> int:
        return 4 * self.block_out_channels[0]

    @classmethod
    def from_diffusers(cls, document: dict[str, Any]) -> "UNetConfig":
        """Reads unet/config.json. Raises WeightsError where it describes another architecture."""
        _check_rest(cls, document, UNET_FIXED, "UNet")
        return cls(**_select_fields(cls, document))

    def to_diffusers(self) -> dict[str, Any]:
        """Writes unet/config.json."""
        return {"_class_name": "UNet2DConditionModel", **dataclasses.asdict(self), **UNET_FIXED}


@dataclasses.dataclass(frozen=True)
class VAEConfig:
    """Sizes of the autoencoder; names and defaults are those of diffusers' AutoencoderKL.

    Args:
        block_out_channels: channels a level, from the finest; each level after the first halves the picture.
        scaling_factor: latents are multiplied by it before the UNet sees them.
        sample_size: height and width in pixels that the weights were trained at.
        force_upcast: kept for the way back.
    """

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (64,)
    layers_per_block: int = 1
    norm_num_groups: int = 32
    scaling_factor: float = 0.18215
    sample_size: int = 32
    force_upcast: bool = True

    @property
    def factor(self) -> int:
        """Pixels a latent, along each axis."""
        return 2 ** (len(self.block_out_channels) - 1)

    def _block_types(self) -> dict[str, Any]:
        levels = len(self.block_out_channels)
        return {"down_block_types": ("DownEncoderBlock2D",) * levels, "up_block_types": ("UpDecoderBlock2D",) * levels}

    @classmethod
    def from_diffusers(cls, document: dict[str, Any]) -> "VAEConfig":
        """Reads vae/config.json. Raises WeightsError where it describes another architecture."""
        config = cls(**_select_fields(cls, document))
        _check_rest(cls, document, {**VAE_FIXED, **config._block_types()}, "VAE")
        return config

    def to_diffusers(self) -> dict[str, Any]:
        """Writes vae/config.json."""
        return {"_class_name": "AutoencoderKL", **dataclasses.asdict(self), **self._block_types(), **VAE_FIXED}


@dataclasses.dataclass(frozen=True)
class TAESDConfig:
    """Sizes of the tiny autoencoder; names and defaults are those of diffusers' AutoencoderTiny.

    Args:
        encoder_block_out_channels: channels a level, from the finest; the same for all levels.
        decoder_block_out_channels: channels a level, from the coarsest; the same for all levels.
        num_encoder_blocks: residual blocks a level; each level after the first halves the picture.
        num_decoder_blocks: residual blocks a level; each level but the last doubles the picture.
    """

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    encoder_block_out_channels: tuple[int, ...] = (64, 64, 64, 64)
    decoder_block_out_channels: tuple[int, ...] = (64, 64, 64, 64)
    num_encoder_blocks: tuple[int, ...] = (1, 3, 3, 3)
    num_decoder_blocks: tuple[int, ...] = (3, 3, 3, 1)

    @property
    def factor(self) -> int:
        """Pixels a latent, along each axis."""
        return 2 ** (len(self.num_encoder_blocks) - 1)

    @property
    def sample_size(self) -> int:
        """Height and width in pixels of the tiles of large pictures; the file does not state it."""
        return 512

    def __post_init__(self):
        for side in ("encoder", "decoder"):
            channels, blocks = getattr(self, f"{side}_block_out_channels"), getattr(self, f"num_{side}_blocks")
            if len(set(channels)) != 1 or len(channels) != len(blocks):
                raise WeightsError(
                    f"TAESD config: {side}_block_out_channels={channels}, num_{side}_blocks={blocks}: give as many of "
                    "each, and the same channels for all levels"
                )

    @classmethod
    def from_diffusers(cls, document: dict[str, Any]) -> "TAESDConfig":
        """Reads config.json. Raises WeightsError where it describes another architecture."""
        config = cls(**_select_fields(cls, document))
        # diffusers repeats the decoder's channels under this name.
        fixed = {**TAESD_FIXED, "block_out_channels": config.decoder_block_out_channels}
        _check_rest(cls, document, fixed, "TAESD")
        return config

    def to_diffusers(self) -> dict[str, Any]:
        """Writes config.json."""
        return {"_class_name": TAESD_CLASS, **dataclasses.asdict(self), **TAESD_FIXED}


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """Sizes of CLIP's text encoder; names and defaults are those of transformers' CLIPTextConfig.

    Args:
        hidden_act: "quick_gelu" (OpenAI's CLIP, Stable Diffusion 1.x) or "gelu" (OpenCLIP, 2.x).
        max_position_embeddings: tokens in a prompt, start and end included.
    """

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    projection_dim: int = 512
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    pad_token_id: int = 1
    bos_token_id: int = 49406
    eos_token_id: int = 49407

    def __post_init__(self):
        if self.hidden_act not in ACTIVATIONS:
            raise WeightsError(f"text encoder config: hidden_act={self.hidden_act!r} unsupported; use {ACTIVATIONS}")

    @classmethod
    def from_diffusers(cls, document: dict[str, Any]) -> "TextConfig":
        """Reads text_encoder/config.json. Raises WeightsError where it describes another architecture."""
        model_type = document.get("model_type", "clip_text_model")
        if model_type not in TEXT_MODELS:
            raise WeightsError(f"text encoder config: model_type={model_type!r} unsupported; use CLIP's text model")
        return cls(**_select_fields(cls, document))

    def to_diffusers(self) -> dict[str, Any]:
        """Writes text_encoder/config.json."""
        return {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model", **dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True)
class VisionConfig:
    """Sizes of CLIP's image encoder; names and defaults are those of transformers' CLIPVisionConfig."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    image_size: int = 224
    patch_size: int = 32
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5

    def __post_init__(self):
        if self.hidden_act not in ACTIVATIONS:
            raise WeightsError(f"image encoder config: hidden_act={self.hidden_act!r} unsupported; use {ACTIVATIONS}")

    @classmethod
    def from_transformers(cls, document: dict[str, Any]) -> "VisionConfig":
        """Reads what config.json of a CLIP model has under "vision_config"."""
        return cls(**_select_fields(cls, document))
