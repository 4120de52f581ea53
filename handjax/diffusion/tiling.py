"""The autoencoder on large pictures, one tile after the other: memory is that of one tile and the result.

All tiles have one size, so that one program serves them; the last of an axis is moved back to end with the picture.
Neighbours are blended linearly where they overlap. Group norm and attention see one tile at a time, so the result is
near that of the whole picture, not equal.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from handjax.diffusion.taesd import Autoencoder
from handjax.errors import ConfigError


def decode_tiled(
    vae: Autoencoder,
    params: Any,
    latents: Float[Array, "batch h w latent"],
    tile: int | None = None,
    overlap: int | None = None,
) -> Float[Array, "batch height width cout"]:
    """`VAE.decode` by tiles.

    Args:
        vae: the autoencoder.
        params: its parameters.
        latents: unscaled.
        tile: side of a tile in latents; None is the size that the weights were trained at.
        overlap: of neighbours, in latents; None is a quarter of a tile.

    Raises:
        ConfigError: the overlap is not between 1 and half a tile.

    Source:
        diffusers' `AutoencoderKL.tiled_decode` with its defaults; where three or four tiles meet, its weights do not
        add up to one and these do, and a last tile is whole here.
    """
    tile, overlap = _sizes(vae, tile, overlap)

    def decode(part: Array) -> Array:
        decoded: Any = vae.apply({"params": params}, part, method="decode")
        return decoded

    return _tiled(decode, latents, (1, vae.config.factor), tile, overlap)


def encode_tiled(
    vae: Autoencoder,
    params: Any,
    images: Float[Array, "batch height width cin"],
    tile: int | None = None,
    overlap: int | None = None,
) -> tuple[Float[Array, "batch h w latent"], Float[Array, "batch h w latent"]]:
    """`VAE.encode` by tiles: mean and log-variance. Arguments and source as in `decode_tiled`; images in [-1, 1]."""
    tile, overlap = _sizes(vae, tile, overlap)

    def encode(part: Array) -> Array:
        moments: Any = vae.apply({"params": params}, part, method="encode")
        return jnp.concatenate(moments, axis=-1)

    mean, log_variance = jnp.split(_tiled(encode, images, (vae.config.factor, 1), tile, overlap), 2, axis=-1)
    return mean, log_variance


def axis_tiles(
    length: int, tile: int, overlap: int, scale: int
) -> tuple[Int[np.ndarray, " tiles"], Float[np.ndarray, "tiles side"]]:
    """Where the tiles of an axis start, and the weight of each of their pixels; weights at a pixel add up to one.

    Args:
        length: of the axis, in latents.
        tile: side of a tile, in latents, at most `length`.
        overlap: over which a tile fades in and its neighbour out, in latents.
        scale: pixels of the weights a latent.
    """
    starts = np.array([*range(0, length - tile, tile - overlap), length - tile])
    pixels = np.arange(tile * scale)
    fade_in = np.minimum(pixels / (overlap * scale), 1)
    fade_out = np.minimum(np.arange(tile * scale, 0, -1) / (overlap * scale), 1)
    weights = np.ones((len(starts), tile * scale), np.float32)
    weights[1:] *= fade_in
    weights[:-1] *= fade_out
    total = np.zeros(length * scale, np.float32)
    places = starts[:, None] * scale + pixels
    np.add.at(total, places, weights)
    return starts, weights / total[places]


def _sizes(vae: Autoencoder, tile: int | None, overlap: int | None) -> tuple[int, int]:
    tile = vae.config.sample_size // vae.config.factor if tile is None else tile
    overlap = tile // 4 if overlap is None else overlap
    if not 1 <= overlap <= tile // 2:
        raise ConfigError(f"tiles of {tile} latents cannot overlap by {overlap}; give 1 to {tile // 2}")
    return tile, overlap


def _tiled(
    function: Callable[[Array], Array], x: Array, scales: tuple[int, int], tile: int, overlap: int
) -> Float[Array, "batch height width channels"]:
    """Applies `function`, whose input and output have `scales` pixels a latent, tile by tile."""
    scale_in, scale_out = scales
    batch, height, width = x.shape[0], x.shape[1] // scale_in, x.shape[2] // scale_in
    sides = min(tile, height), min(tile, width)
    rows, row_weights = axis_tiles(height, sides[0], overlap, scale_out)
    columns, column_weights = axis_tiles(width, sides[1], overlap, scale_out)

    def cut(picture: Array, row: Array, column: Array, scale: int) -> Array:
        size = (batch, sides[0] * scale, sides[1] * scale, picture.shape[-1])
        return jax.lax.dynamic_slice(picture, (0, row * scale, column * scale, 0), size)

    def body(canvas: Array, place: tuple[Array, ...]) -> tuple[Array, None]:
        row, column, down, across = place
        part = function(cut(x, row, column, scale_in)) * down[:, None, None] * across[:, None]
        part += cut(canvas, row, column, scale_out)
        return jax.lax.dynamic_update_slice(canvas, part, (0, row * scale_out, column * scale_out, 0)), None

    r, c = (index.ravel() for index in np.indices((len(rows), len(columns))))
    places = (rows[r], columns[c], row_weights[r], column_weights[c])
    channels = jax.eval_shape(function, cut(x, jnp.int32(0), jnp.int32(0), scale_in)).shape[-1]
    canvas = jnp.zeros((batch, height * scale_out, width * scale_out, channels))
    return jax.lax.scan(body, canvas, jax.tree.map(jnp.asarray, places))[0]
