"""What the examples of inpainting tasks hold; their picture is pixels, or encoded ahead of time."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from handjax.diffusion.inpainting import encode_pair
from handjax.diffusion.model import StableDiffusion
from handjax.training.task import Batch


def picture_spec(model: StableDiffusion, image_size: int, encoded: bool) -> dict[str, jax.ShapeDtypeStruct]:
    """The fields of a batch that hold picture and mask.

    Args:
        model: decides the size of the latents.
        image_size: side of the pictures in pixels.
        encoded: whether the batch has latents, made ahead of time by `launch.encode`, in place of the picture.
    """
    mask = {"mask": jax.ShapeDtypeStruct((image_size, image_size, 1), jnp.float32)}
    if not encoded:
        return {"image": jax.ShapeDtypeStruct((image_size, image_size, 3), jnp.float32)} | mask
    side = image_size // model.vae.config.factor
    latents = jax.ShapeDtypeStruct((side, side, model.vae.config.latent_channels), jnp.float32)
    return {"latents": latents, "hidden_latents": latents} | mask


def hand_spec(model: StableDiffusion, image_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """The fields of a batch that say what hand is wanted: conditions, keypoints, caption.

    Args:
        model: decides the length of the captions.
        image_size: side of the pictures in pixels.
    """
    return {
        "depth": jax.ShapeDtypeStruct((image_size, image_size, 1), jnp.float32),
        "skeleton": jax.ShapeDtypeStruct((image_size, image_size, 3), jnp.float32),
        "keypoints": jax.ShapeDtypeStruct((21, 2), jnp.float32),
        "keypoints_valid": jax.ShapeDtypeStruct((), jnp.bool_),
        "box_side": jax.ShapeDtypeStruct((), jnp.float32),
        "input_ids": jax.ShapeDtypeStruct((model.tokenizer.length,), jnp.int32),
    }


def latents_of(
    model: StableDiffusion, batch: Batch
) -> tuple[Float[Array, "batch h w latent"], Float[Array, "batch h w latent"]]:
    """Latents of the pictures and of what the mask leaves of them; encodes them where the batch has pixels."""
    if "latents" in batch:
        return jnp.asarray(batch["latents"]), jnp.asarray(batch["hidden_latents"])
    return encode_pair(model, jnp.asarray(batch["image"]), jnp.asarray(batch["mask"]))


def image_of(model: StableDiffusion, batch: Batch) -> Float[Array, "batch height width 3"]:
    """The pictures in [-1, 1]; decodes them where the batch has latents."""
    if "latents" in batch:
        return jnp.clip(model.decode(jnp.asarray(batch["latents"])), -1, 1)
    return jnp.asarray(batch["image"])
