"""Pictures of two hands as they are painted, without a painter."""

import dataclasses

import numpy as np

from data_pipelines.painted_poses import RandomPoses
from data_pipelines.precompute import Failures


def painted_pairs(count, size):
    """(picture, its two records) for each; a picture is smooth, so that JPEG changes little of it."""
    y, x = np.mgrid[:size, :size] / size
    made = []
    names = [str(number) for number in range(count)]
    for number, picture in enumerate(RandomPoses(count, 1, hands=2).render(names, size, Failures())):
        image = np.stack([60 + 150 * x, 60 + 150 * y, np.full_like(x, 80 + 20 * number)], axis=2).astype(np.uint8)
        records = [dataclasses.replace(hand.cut_from(image), caption="two hands") for hand in picture.hands]
        made.append((image, picture.hands, records))
    return made
