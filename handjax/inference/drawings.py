"""Tells drawings from photographs by their colours alone.

What is known of hands' limits and looks was learnt from photographs, and says less of a drawn hand.
"""

import numpy as np
from jaxtyping import UInt8

from handjax.images import resize

SIDE = 160
"""Pixels of the longer side at which pictures are looked at: thinned lines are still seen, and noise is averaged."""
SHADES, GREYS, COLORS, LEAST_COVERED = 16, 128, 8, 0.9
"""Shades of each channel that are told apart, and of pictures that are grey alone, which have but one; so many colours
cover at least this share of a drawing."""
GREY = 24
"""Levels by which the channels of a grey pixel differ at most."""
JUST_SEEN, SHARP = 6, 24
"""Levels of 255 from which neighbours differ at all, and from which that is an edge."""
MOST_SOFT, LEAST_SHARP = 0.75, 0.01
"""Share of the differing neighbours that differ softly, as shading does; least share of all pixels that are edges."""


RULE = (SIDE, SHADES, GREYS, COLORS, LEAST_COVERED, GREY, JUST_SEEN, SHARP, MOST_SOFT, LEAST_SHARP)
"""All that decides."""


def is_drawing(image: UInt8[np.ndarray, "height width 3"]) -> bool:
    """Whether a picture is drawn with few flat colours: line art, cartoons, diagrams, skeletons.

    What is shaded or textured like a photograph is not told from one; a grey photograph that is overexposed, or a
    photograph on a page of one colour, is taken for a drawing.
    """
    height, width = image.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    small = resize(image, (max(2, round(height * scale)), max(2, round(width * scale)))).astype(int)
    return _covered(small) >= LEAST_COVERED and _has_edges_only(small)


def _covered(image: np.ndarray) -> float:
    """Share of the pixels that have one of the commonest colours."""
    shades = GREYS if (np.ptp(image, axis=-1) <= GREY).mean() > 0.95 else SHADES
    red, green, blue = np.moveaxis(image * shades // 256, -1, 0)
    counts = np.bincount(((red * shades + green) * shades + blue).ravel())
    return float(np.sort(counts)[-COLORS:].sum() / red.size)


def _has_edges_only(image: np.ndarray) -> bool:
    across = np.abs(np.diff(image, axis=1)).max(axis=-1)[:-1]
    down = np.abs(np.diff(image, axis=0)).max(axis=-1)[:, :-1]
    steps = np.maximum(across, down)
    sharp, differing = (steps > SHARP).mean(), (steps > JUST_SEEN).mean()
    return bool(sharp >= LEAST_SHARP and differing - sharp <= MOST_SOFT * differing)
