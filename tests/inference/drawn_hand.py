"""A hand that is drawn with three colours."""

import numpy as np
from PIL import Image, ImageDraw

from handjax.images import resize


def hand_of_shapes(skin, paper, side=300):
    """A palm and five fingers of one colour, outlined, on paper."""
    picture = Image.new("RGB", (300, 300), paper)
    draw = ImageDraw.Draw(picture)
    for x, top in ((60, 150), (105, 40), (145, 30), (185, 45), (225, 90)):
        draw.rounded_rectangle((x - 16, top, x + 16, 200), 16, skin, (0, 0, 0), 3)
    draw.ellipse((80, 150, 220, 290), skin, (0, 0, 0), 3)
    return resize(np.asarray(picture), (side, side))
