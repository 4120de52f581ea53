"""A whole Stable Diffusion model, from and to the folder layout of diffusers."""

import importlib.metadata
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from handjax.diffusion.configs import TextConfig, UNetConfig, VAEConfig
from handjax.diffusion.schedules import NoiseSchedule
from handjax.diffusion.text_encoder import TextEncoder
from handjax.diffusion.tokenizer import Tokenizer
from handjax.diffusion.unet import UNet
from handjax.diffusion.vae import VAE
from handjax.errors import WeightsError
from handjax.files import atomic_write, write_json
from handjax.weights.names import check_tree, to_flax, to_torch
from handjax.weights.safetensors import read_tensors, write_tensors

ASSETS = Path(__file__).parents[1] / "assets"
INDEX = "model_index.json"
SCHEDULE = "scheduler/scheduler_config.json"
# Published folders hold one or several precisions; the first that exists is read.
WEIGHT_FILES = {
    "unet": ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"),
    "vae": ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"),
    "text_encoder": ("model.safetensors", "model.fp16.safetensors"),
}
# transformers before 5.6 has this level, and published files have it; later versions read both.
TEXT_PREFIX = "text_model."


@struct.dataclass
class StableDiffusion:
    """Networks, weights, noise schedule and tokenizer. A pytree of the weights; all else is static.

    Args:
        unet_params: parameters of `unet`.
        vae_params: parameters of `vae`.
        text_params: parameters of `text_encoder`.
    """

    unet_params: Any
    vae_params: Any
    text_params: Any
    unet: UNet = struct.field(pytree_node=False)
    vae: VAE = struct.field(pytree_node=False)
    text_encoder: TextEncoder = struct.field(pytree_node=False)
    schedule: NoiseSchedule = struct.field(pytree_node=False)
    tokenizer: Tokenizer = struct.field(pytree_node=False)

    def embed(self, prompts: Sequence[str]) -> Float[Array, "batch words embed"]:
        """Text embedding of prompts."""
        return self.embed_ids(jnp.asarray(self.tokenizer(prompts)))

    def embed_ids(self, ids: Int[Array, "batch words"]) -> Float[Array, "batch words embed"]:
        """Text embedding of token ids."""
        return _apply(self.text_encoder, self.text_params, ids)

    def encode(
        self, images: Float[Array, "batch height width 3"], rng: PRNGKeyArray | None = None
    ) -> Float[Array, "batch h w latent"]:
        """Latents, as the UNet sees them, of images in [-1, 1]: the posterior's mean, or a sample with `rng`."""
        mean, log_variance = _apply(self.vae, self.vae_params, images, method="encode")
        if rng is not None:
            mean += jnp.exp(0.5 * log_variance) * jax.random.normal(rng, mean.shape)
        return self.vae.scale(mean)

    def decode(self, latents: Float[Array, "batch h w latent"]) -> Float[Array, "batch height width 3"]:
        """Images, nominally in [-1, 1], of latents as the UNet sees them."""
        return _apply(self.vae, self.vae_params, self.vae.unscale(latents), method="decode")

    def initial_noise(self, rng: Key[Array, "batch"], image_size: int) -> Float[Array, "batch h w latent"]:
        """Standard normal latents for square pictures of `image_size` pixels, where sampling starts."""
        side = image_size // self.vae.config.factor
        shape = (side, side, self.vae.config.latent_channels)
        return jax.vmap(lambda key: jax.random.normal(key, shape))(rng)

    def predict(
        self,
        sample: Float[Array, "batch h w cin"],
        timesteps: Float[Array, "batch"],
        context: Float[Array, "batch words embed"],
        **residuals: Any,
    ) -> Float[Array, "batch h w cout"]:
        """The UNet's prediction; `residuals` as in `UNet.__call__`."""
        return _apply(self.unet, self.unet_params, sample, timesteps, context, **residuals)


def find_model(name: str | Path) -> Path:
    """Returns the folder `name`, or the model of this name in the package's assets when there is no such folder."""
    return ASSETS / name if not Path(name).exists() and (ASSETS / name).exists() else Path(name)


def load_stable_diffusion(folder: str | Path, dtype: DTypeLike = jnp.float32) -> StableDiffusion:
    """Reads a Stable Diffusion 1.x or 2.x model, text-to-image or inpainting.

    Args:
        folder: in the layout of diffusers, with safetensors of any precision; or the name of a model in the assets.
        dtype: of the weights in memory and of the computation.

    Returns:
        The model, its weights as numpy arrays that JAX copies to its devices when they are used.

    Raises:
        WeightsError: the folder is missing or incomplete, or holds another architecture.
    """
    folder = find_model(folder)
    if not (folder / INDEX).is_file():
        raise WeightsError(
            f"{folder}: no {INDEX}, so this is not a complete Stable Diffusion model; download one in the diffusers "
            f"layout (`hf download ORGANISATION/MODEL --local-dir {folder}`)"
        )
    unet = UNet(UNetConfig.from_diffusers(_read_json(folder / "unet/config.json")), dtype)
    vae, vae_params = load_vae(folder, dtype)
    text_encoder = TextEncoder(TextConfig.from_diffusers(_read_json(folder / "text_encoder/config.json")), dtype)
    if unet.config.cross_attention_dim != text_encoder.config.hidden_size:
        raise WeightsError(
            f"{folder}: the UNet reads {unet.config.cross_attention_dim} text channels, the text encoder gives "
            f"{text_encoder.config.hidden_size}; use the parts of one model"
        )
    return StableDiffusion(
        unet_params=_read_params(folder, "unet", unet, dtype),
        vae_params=vae_params,
        text_params=_read_params(folder, "text_encoder", text_encoder, dtype),
        unet=unet,
        vae=vae,
        text_encoder=text_encoder,
        schedule=NoiseSchedule.from_diffusers(_read_json(folder / SCHEDULE)),
        tokenizer=Tokenizer(str(folder / "tokenizer"), text_encoder.config.max_position_embeddings),
    )


def load_vae(folder: str | Path, dtype: DTypeLike = jnp.float32) -> tuple[VAE, Any]:
    """Reads the autoencoder, and its parameters, of a folder as `load_stable_diffusion` takes it."""
    folder = find_model(folder)
    vae = VAE(VAEConfig.from_diffusers(_read_json(folder / "vae/config.json")), dtype)
    return vae, _read_params(folder, "vae", vae, dtype)


def save_stable_diffusion(model: StableDiffusion, folder: str | Path, dtype: DTypeLike = np.float16) -> None:
    """Writes a model in the layout of diffusers; its pipelines and `load_stable_diffusion` read it.

    Other files in `folder` stay. The index is written last, so that an interrupted write is not taken for a model.

    Args:
        model: the model.
        folder: made when missing.
        dtype: of the weights in the files.
    """
    folder = Path(folder)
    (folder / INDEX).unlink(missing_ok=True)
    save_part(folder, "unet", model.unet.config, model.unet_params, dtype)
    save_part(folder, "vae", model.vae.config, model.vae_params, dtype)
    save_part(folder, "text_encoder", model.text_encoder.config, model.text_params, dtype)
    write_json(folder / SCHEDULE, model.schedule.to_diffusers())
    if Path(model.tokenizer.folder).resolve() != (folder / "tokenizer").resolve():
        with atomic_write(folder / "tokenizer") as temporary:
            shutil.copytree(model.tokenizer.folder, temporary)
    write_json(folder / INDEX, _index(model))


def save_part(
    folder: str | Path,
    part: Literal["unet", "vae", "text_encoder"],
    config: UNetConfig | VAEConfig | TextConfig,
    params: Any,
    dtype: DTypeLike = np.float16,
) -> None:
    """Writes one network of a model into its subfolder of `folder`."""
    tensors = to_torch(jax.tree.map(lambda value: np.asarray(value).astype(dtype), params))
    if part == "text_encoder":
        tensors = {TEXT_PREFIX + key: value for key, value in tensors.items()}
    write_tensors(Path(folder) / part / WEIGHT_FILES[part][0], tensors)
    write_json(Path(folder) / part / "config.json", config.to_diffusers())


def initial_params(network: nn.Module, rng: PRNGKeyArray) -> Any:
    """Draws the parameters of a UNet, VAE or TextEncoder; with `jax.eval_shape`, their shapes.

    Args:
        network: the module.
        rng: key of the draw.

    Returns:
        The parameter tree, float32.
    """
    config = network.config
    arguments: tuple[Array, ...]
    if isinstance(network, UNet):
        size = 2 ** (len(config.block_out_channels) - 1)
        sample = jnp.zeros((1, size, size, config.in_channels))
        arguments = (sample, jnp.zeros(1), jnp.zeros((1, 1, config.cross_attention_dim)))
    elif isinstance(network, VAE):
        arguments = (jnp.zeros((1, config.factor, config.factor, config.in_channels)), rng)
    else:
        arguments = (jnp.zeros((1, 1), jnp.int32),)
    return network.init(rng, *arguments)["params"]


def _apply(network: nn.Module, params: Any, *args: Any, **kwargs: Any) -> Any:
    return network.apply({"params": params}, *args, **kwargs)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file; the model is incomplete, download it again") from error
    except ValueError as error:
        raise WeightsError(f"{path}: not JSON ({error}); download it again") from error


def _read_params(folder: Path, part: str, network: nn.Module, dtype: DTypeLike) -> Any:
    files = [folder / part / name for name in WEIGHT_FILES[part]]
    path = next(filter(Path.is_file, files), files[0])
    tensors = ((name.removeprefix(TEXT_PREFIX), value.astype(dtype)) for name, value in read_tensors(path))
    params = to_flax(tensors)
    check_tree(params, jax.eval_shape(lambda rng: initial_params(network, rng), jax.random.key(0)), str(path))
    return params


def _index(model: StableDiffusion) -> dict[str, Any]:
    inpainting = model.unet.config.in_channels == 9
    return {
        "_class_name": "StableDiffusionInpaintPipeline" if inpainting else "StableDiffusionPipeline",
        "_diffusers_version": importlib.metadata.version("diffusers"),
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
