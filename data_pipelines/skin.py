"""Colours of rendered arms: skin of all tones, paler palms, redder tips, nails, and sometimes a sleeve."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from handjax.hand.model import HandModel, rest_joints
from handjax.hand.rasterize import vertex_normals
from handjax.hand.topology import MANO_JOINT_NAMES

_TONES_HEX = "f6ede4 f3e7db f7ead0 eadaba d7bd96 a07e56 825c43 604134 3a312a 292420"
SKIN_TONES = np.array([[int(tone[i : i + 2], 16) / 255 for i in (0, 2, 4)] for tone in _TONES_HEX.split()])
"""Skin tones in sRGB, light to dark. Source: Monk, "The Monk Skin Tone Scale", 2019 (colours published by Google)."""

BLOOD = np.array([1.0, 0.72, 0.68], np.float32)
NAIL = np.array([1.12, 0.95, 0.95], np.float32)
_LAST_JOINTS = [MANO_JOINT_NAMES.index(f"{finger}_{part}") for finger, part in (
    ("thumb", "ip"), ("index", "dip"), ("middle", "dip"), ("ring", "dip"), ("little", "dip"),
)]  # fmt: skip
_NAIL_RADIUS = 0.006
_TIP_RADIUS = 0.014
_MOTTLE_WAVES = 12
_SLEEVE_SHARE = 0.35


class SkinMap(NamedTuple):
    """Where on a hand model which colour goes: one weight in [0, 1] a vertex, and the vertices at rest."""

    palm: Float[Array, " V"]
    tips: Float[Array, " V"]
    nails: Float[Array, " V"]
    rest: Float[Array, "V 3"]


def to_linear(srgb: Float[Array, "*shape 3"]) -> Float[Array, "*shape 3"]:
    """Decodes sRGB in [0, 1] to light. Source: IEC 61966-2-1, as a plain power."""
    return srgb**2.2


def to_srgb(light: Float[Array, "*shape 3"]) -> Float[Array, "*shape 3"]:
    """Encodes light as sRGB in [0, 1], clipped."""
    return jnp.clip(light, 1e-6, 1.0) ** (1 / 2.2)


def skin_map(model: HandModel) -> SkinMap:
    """Finds palm, fingertips and nails of a right hand at rest, whose palm looks along negative z."""
    rest = model.template
    normals = vertex_normals(rest, model.faces)
    tips = model.tip_regressor @ rest
    bones = tips - rest_joints(model, rest)[jnp.array(_LAST_JOINTS)]
    to_tip = jnp.linalg.norm(rest[:, None] - tips, axis=-1)
    along = bones / jnp.linalg.norm(bones, axis=-1, keepdims=True)
    # the back of a fingertip is where the normal leaves the bone on the side away from the palm; the thumb's is turned
    back = jnp.array([[-0.9, 0.0, -0.45], *[[0.0, 0.0, 1.0]] * 4])
    back = back - jnp.sum(back * along, axis=1, keepdims=True) * along
    back = back / jnp.linalg.norm(back, axis=1, keepdims=True)
    faces_back = jnp.clip(normals @ back.T * 4.0 - 2.4, 0.0, 1.0)
    nail_center = tips - 0.004 * along + 0.004 * back
    to_nail = jnp.linalg.norm(rest[:, None] - nail_center, axis=-1)
    nails = (faces_back * jnp.clip(2.0 - to_nail / _NAIL_RADIUS, 0.0, 1.0)).max(axis=1)
    return SkinMap(
        palm=jax.nn.sigmoid(-6.0 * normals[:, 2]) * jax.nn.sigmoid(-150.0 * rest[:, 1]),
        tips=jnp.exp(-((to_tip.min(axis=1) / _TIP_RADIUS) ** 2)),
        nails=nails,
        rest=rest,
    )


def draw_skin(key: Key[Array, ""], parts: SkinMap) -> Float[Array, "V 3"]:
    """Draws the colours of one arm.

    Args:
      key: source of randomness.
      parts: of the hand model.

    Returns:
      Share of light that each vertex reflects, linear RGB.
    """
    tone_key, vary_key, mottle_key, sleeve_key = jax.random.split(key, 4)
    tones = to_linear(jnp.asarray(SKIN_TONES, jnp.float32))
    place = jax.random.uniform(tone_key, maxval=len(SKIN_TONES) - 1.0)
    tone = jnp.stack([jnp.interp(place, jnp.arange(len(SKIN_TONES)), tones[:, i]) for i in range(3)])
    darkness = place / (len(SKIN_TONES) - 1)
    warmth, blush, nail = jax.random.uniform(vary_key, (3,))
    # the scale shows faces under even light; hands of the lightest tones are warmer and less bright
    tone = tone * jnp.array([0.72, 0.55, 0.48]) ** (1.0 - 0.9 * darkness) * (0.9 + 0.2 * warmth)
    palm = tone * (1.0 + darkness * jnp.array([2.2, 1.6, 1.3]))
    color = tone + (palm - tone) * parts.palm[:, None]
    color *= 1.0 + (BLOOD - 1.0) * ((0.25 + 0.5 * blush) * parts.tips + 0.25 * parts.palm)[:, None]
    color *= 1.0 + 0.16 * _mottle(mottle_key, parts.rest)[:, None] * jnp.array([0.7, 1.0, 1.1])
    pale_nail = tone * NAIL + 0.04 + 0.08 * nail
    color += (pale_nail - color) * parts.nails[:, None]
    return _dress(sleeve_key, jnp.clip(color, 0.005, 0.95), parts.rest)


def _mottle(key: Key[Array, ""], points: Float[Array, "V 3"]) -> Float[Array, " V"]:
    """Smooth variation over a surface, about [-1, 1]: waves of 1 to 6 cm."""
    wave_key, length_key, phase_key = jax.random.split(key, 3)
    directions = jax.random.normal(wave_key, (_MOTTLE_WAVES, 3))
    directions /= jnp.linalg.norm(directions, axis=1, keepdims=True)
    lengths = jax.random.uniform(length_key, (_MOTTLE_WAVES,), minval=0.01, maxval=0.06)
    phases = jax.random.uniform(phase_key, (_MOTTLE_WAVES,), maxval=2 * jnp.pi)
    return jnp.sin(2 * jnp.pi * points @ (directions / lengths[:, None]).T + phases).mean(axis=1) * 2.0


def _dress(key: Key[Array, ""], color: Float[Array, "V 3"], rest: Float[Array, "V 3"]) -> Float[Array, "V 3"]:
    worn_key, start_key, color_key = jax.random.split(key, 3)
    start = jax.random.uniform(start_key, minval=0.02, maxval=0.12)
    worn = jax.random.uniform(worn_key) < _SLEEVE_SHARE
    cloth = jax.random.uniform(color_key, (3,), minval=0.02, maxval=0.8) ** 1.5
    return jnp.where((worn & (rest[:, 1] > start))[:, None], cloth, color)
