"""A whole Stable Diffusion model, from and to folders of diffusers and single files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from handjax.diffusion import folder as diffusers_folder
from handjax.diffusion import single_file
from handjax.diffusion.configs import TAESD_CLASS
from handjax.diffusion.folder import (
    INDEX,
    SCHEDULE,
    TOKENIZER,
    part_folder,
    read_json,
    read_noise_schedule,
    save_part,
    save_settings,
)
from handjax.diffusion.hub import download, is_repository
from handjax.diffusion.networks import MODULES, Part
from handjax.diffusion.schedules import NoiseSchedule
from handjax.diffusion.shapes import SHAPES_ONLY, read_settings, read_shapes
from handjax.diffusion.taesd import TAESD, Autoencoder, load_taesd
from handjax.diffusion.text_encoder import TextEncoder
from handjax.diffusion.tiling import decode_tiled, encode_tiled
from handjax.diffusion.tokenizer import Tokenizer
from handjax.diffusion.unet import UNet
from handjax.errors import WeightsError
from handjax.files import write_json

ASSETS = Path(__file__).parents[1] / "assets"
INPAINTING_CHANNELS = 9
TINY = "tiny_inpainting"
# Of a picture that the autoencoder takes whole: 1024². One four times as large would need over 10 GiB.
MOST_PIXELS = 2**20


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
    vae: Autoencoder = struct.field(pytree_node=False)
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
        """Latents, as the UNet sees them, of images in [-1, 1]: the posterior's mean, or a sample with `rng`.

        Images of more than `MOST_PIXELS` are encoded, and decoded, by tiles (`handjax.diffusion.tiling`).
        """
        if images.shape[1] * images.shape[2] > MOST_PIXELS:
            mean, log_variance = encode_tiled(self.vae, self.vae_params, images)
        else:
            mean, log_variance = _apply(self.vae, self.vae_params, images, method="encode")
        if rng is not None:
            mean += jnp.exp(0.5 * log_variance) * jax.random.normal(rng, mean.shape)
        return self.vae.scale(mean)

    def decode(self, latents: Float[Array, "batch h w latent"]) -> Float[Array, "batch height width 3"]:
        """Images, nominally in [-1, 1], of latents as the UNet sees them; large ones by tiles."""
        unscaled = self.vae.unscale(latents)
        if latents.shape[1] * latents.shape[2] * self.vae.config.factor**2 > MOST_PIXELS:
            return decode_tiled(self.vae, self.vae_params, unscaled)
        return _apply(self.vae, self.vae_params, unscaled, method="decode")

    def initial_noise(self, rng: Key[Array, " batch"], image_size: int) -> Float[Array, "batch h w latent"]:
        """Standard normal latents for square pictures of `image_size` pixels, where sampling starts."""
        side = image_size // self.vae.config.factor
        shape = (side, side, self.vae.config.latent_channels)
        return jax.vmap(lambda key: jax.random.normal(key, shape))(rng)

    def predict(
        self,
        sample: Float[Array, "batch h w cin"],
        timesteps: Float[Array, " batch"],
        context: Float[Array, "batch words embed"],
        **residuals: Any,
    ) -> Float[Array, "batch h w cout"]:
        """The UNet's prediction; `residuals` as in `UNet.__call__`."""
        return _apply(self.unet, self.unet_params, sample, timesteps, context, **residuals)


def find_model(name: str | Path) -> Path:
    """Returns the folder `name`, or the model of this name in the package's assets when there is no such folder."""
    return ASSETS / name if not Path(name).exists() and (ASSETS / name).exists() else Path(name)


def load_stable_diffusion(
    name: str | Path,
    dtype: DTypeLike = jnp.float32,
    vae: str | Path | None = None,
    allow_pickle: bool = False,
) -> StableDiffusion:
    """Reads a Stable Diffusion 1.x or 2.x model, text-to-image or inpainting.

    Args:
        name: a folder in the layout of diffusers, with weights of any precision, whole or in shards; a single-file
            checkpoint (`handjax.diffusion.single_file` says where its sizes come from); the name of a model in the
            assets; or one on the Hugging Face hub (`ORGANISATION/MODEL`), which is downloaded. After "shapes:", a
            folder or a name of `handjax.diffusion.shapes.PUBLISHED` gives shapes in place of weights.
        dtype: of the weights in memory and of the computation.
        vae: another model, or an autoencoder alone as a folder or file, whose autoencoder takes the place of this
            one's; a tiny one (TAESD) decodes in a fraction of the time.
        allow_pickle: read pickled weights (.bin, .ckpt), with PyTorch's loader of nothing but tensors.

    Returns:
        The model, its weights as numpy arrays that JAX copies to its devices when they are used.

    Raises:
        WeightsError: the model is missing, incomplete or damaged, or of another architecture.
        BackendError: the weights are pickled and PyTorch is not installed.
    """
    if str(name).startswith(SHAPES_ONLY):
        return _without_weights(str(name).removeprefix(SHAPES_ONLY), dtype)
    source = _locate(name)
    if not source.is_file() and not (source / INDEX).is_file():
        raise WeightsError(
            f"{source}: no {INDEX}, so this is not a complete Stable Diffusion model; download one in the diffusers "
            f"layout (`hf download ORGANISATION/MODEL --local-dir {source}`)"
        )
    if not source.is_file():
        _check_index(source / INDEX)
    unet, unet_params = _read_part(source, "unet", dtype, allow_pickle)
    vae_network, vae_params = load_vae(source if vae is None else vae, dtype, allow_pickle)
    text_encoder, text_params = _read_part(source, "text_encoder", dtype, allow_pickle)
    for reads, gives, what in (
        (unet.config.cross_attention_dim, text_encoder.config.hidden_size, "text channels, the text encoder"),
        (unet.config.out_channels, vae_network.config.latent_channels, "latent channels, the autoencoder"),
    ):
        if reads != gives:
            raise WeightsError(f"{source}: the UNet reads {reads} {what} gives {gives}; use the parts of one model")
    if source.is_file():
        settings, schedule = single_file.settings_folder(source), single_file.read_schedule(source, unet.config)
    else:
        settings, schedule = source, read_noise_schedule(source / SCHEDULE)
    return StableDiffusion(
        unet_params=unet_params,
        vae_params=vae_params,
        text_params=text_params,
        unet=unet,
        vae=vae_network,
        text_encoder=text_encoder,
        schedule=schedule,
        tokenizer=Tokenizer(str(settings / TOKENIZER), text_encoder.config.max_position_embeddings),
    )


def _without_weights(name: str, dtype: DTypeLike) -> StableDiffusion:
    source = find_model(name)
    networks = read_shapes(source, name, dtype)
    schedule, tokenizer = read_settings(source, ASSETS / TINY)
    text_encoder, text_shapes = networks["text_encoder"]
    return StableDiffusion(
        unet_params=networks["unet"][1],
        vae_params=networks["vae"][1],
        text_params=text_shapes,
        unet=networks["unet"][0],
        vae=networks["vae"][0],
        text_encoder=text_encoder,
        schedule=schedule,
        tokenizer=Tokenizer(str(tokenizer), text_encoder.config.max_position_embeddings),
    )


def load_vae(name: str | Path, dtype: DTypeLike = jnp.float32, allow_pickle: bool = False) -> tuple[Autoencoder, Any]:
    """Reads the autoencoder, and its parameters, of a model as `load_stable_diffusion` takes it, or one alone."""
    source = _locate(name)
    if not source.is_file():
        home = part_folder(source, "vae")
        if read_json(home / "config.json").get("_class_name") == TAESD_CLASS:
            return load_taesd(home, dtype, allow_pickle)
    return _read_part(source, "vae", dtype, allow_pickle)


def _check_index(path: Path) -> None:
    """Raises WeightsError where a model's index names other parts than Stable Diffusion has."""
    index = read_json(path)
    missing = [part for part in MODULES if not any(index.get(part) or [None])]
    if missing:
        kind = index.get("_class_name", "model")
        raise WeightsError(f"{path}: a {kind} without {missing[0]}; give a Stable Diffusion 1.x or 2.x model")


def save_stable_diffusion(
    model: StableDiffusion,
    folder: str | Path,
    dtype: DTypeLike = np.float16,
    max_shard_bytes: int | None = None,
) -> None:
    """Writes a model in the layout of diffusers; its pipelines and `load_stable_diffusion` read it.

    Other files in `folder` stay. The index is written last, so that an interrupted write is not taken for a model.

    Args:
        model: the model.
        folder: made when missing.
        dtype: of the weights in the files.
        max_shard_bytes: larger networks are written in several files; None writes one each.

    Raises:
        WeightsError: the model's tokenizer folder lacks a file.
    """
    folder = Path(folder)
    (folder / INDEX).unlink(missing_ok=True)
    for part, (config, params) in _parts(model).items():
        save_part(folder, part, config, params, dtype, max_shard_bytes)
    save_settings(folder, model.schedule, model.tokenizer, model.unet.config.in_channels == INPAINTING_CHANNELS)


def save_single_file(model: StableDiffusion, path: str | Path, dtype: DTypeLike = np.float16) -> None:
    """Writes a model into one .safetensors file with LDM's names, and its settings into the folder beside it.

    diffusers reads both with `from_single_file(path, config=folder)`, most other programs the file alone. Of Stable
    Diffusion 2.x's text encoder the last layer, which nothing uses, is not written.

    Args:
        model: the model.
        path: the .safetensors file; the folder has its name without the ending.
        dtype: of the weights in the file.

    Raises:
        WeightsError: the model's tokenizer folder lacks a file, or its autoencoder is a tiny one.
    """
    if isinstance(model.vae, TAESD):
        raise WeightsError(f"{path}: single files have no names for a tiny autoencoder; write a folder")
    path, settings = Path(path), single_file.settings_folder(Path(path))
    for part, (config, _) in _parts(model).items():
        write_json(settings / part / "config.json", config.to_diffusers())
    save_settings(settings, model.schedule, model.tokenizer, model.unet.config.in_channels == INPAINTING_CHANNELS)
    single_file.write_weights(path, _parts(model), model.schedule, dtype)


def _parts(model: StableDiffusion) -> dict[Part, tuple[Any, Any]]:
    return {
        "unet": (model.unet.config, model.unet_params),
        "vae": (model.vae.config, model.vae_params),
        "text_encoder": (model.text_encoder.config, model.text_params),
    }


def _locate(name: str | Path) -> Path:
    """The folder or file of a model, downloaded if it is one of the hub."""
    path = find_model(name)
    return path if path.exists() or not is_repository(str(name)) else download(str(name))


def _read_part(source: Path, part: Part, dtype: DTypeLike, allow_pickle: bool) -> tuple[Any, Any]:
    layout = single_file if source.is_file() else diffusers_folder
    return layout.read_part(source, part, dtype, allow_pickle)


def _apply(network: nn.Module, params: Any, *args: Any, **kwargs: Any) -> Any:
    return network.apply({"params": params}, *args, **kwargs)
