"""Annotation files in COCO's form, with the hands of people as lists of x, y, v."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from data_pipelines.datasets.annotation import HALF_PIXEL, HandAnnotation, with_confidence
from data_pipelines.datasets.layout import read_json
from handjax.errors import InputError
from handjax.record import Side


def read_coco(path: Path, remedy: str, *tables: str) -> dict[str, list[dict[str, Any]]]:
    """Reads an annotation file that has these lists.

    Raises:
      InputError: it is missing or broken, or a list is.
    """
    content = read_json(path, remedy)
    missing = [table for table in tables if not isinstance(content, dict) or not isinstance(content.get(table), list)]
    if missing:
        raise InputError(f"{path}: has no list {missing[0]!r}; {remedy}")
    return {table: content[table] for table in tables}


def annotated_pictures(path: Path, remedy: str) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Gives the pictures of an annotation file, each with its annotations."""
    content = read_coco(path, remedy, "images", "annotations")
    annotations = defaultdict(list)
    for annotation in content["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    for image in sorted(content["images"], key=lambda image: image["id"]):
        yield image, annotations[image["id"]]


def coco_hand(triples: Float[np.ndarray, "21 3"], side: Side, caption: str | None = None) -> HandAnnotation:
    """Hand of x, y and v, in OpenPose's order.

    COCO's x and y are numbers of pixels from 0 (cocodataset.org/#format-data: "0-indexed"), to which Detectron2's
    reader of COCO (data/datasets/coco.py) adds half a pixel too.

    Args:
      triples: x and y are 0 where they are not known.
      side: which hand.
      caption: of the picture.
    """
    known = triples[:, 2] > 0
    points = np.where(known[:, None], triples[:, :2] + HALF_PIXEL, np.nan)
    return HandAnnotation(
        with_confidence(points, np.where(known, triples[:, 2].clip(max=1.0), 0.0)), side=side, caption=caption
    )
