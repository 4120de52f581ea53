"""MTC, the data set of Monocular Total Capture: people in CMU's Panoptic Studio, with both hands in its world.

Layout and meaning are those of the authors' reader (github.com/CMU-Perceptual-Computing-Lab/MonocularTotalCapture:
POF/data/DomeReader.py for the pickles and the names of pictures, POF/utils/keypoint_conversion.py for the order, which
is OpenPose's) and of the studio's tools (github.com/CMU-Perceptual-Computing-Lab/panoptic-toolbox: python/panutils.py
for projection, matlab/demo_kinoptic_gen_ptcloud.m for centimetres and for pixels that count from the centre of the
first one). Lenses distort, which a record's camera cannot say: records have keypoints in camera axes and no camera.
Views that the reader leaves out as `overlap` are left out here too; others it leaves out are kept, with no confidence
in what is occluded. Some views of a frame have no picture in the download.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from data_pipelines.datasets.annotation import HALF_PIXEL, HandAnnotation, Sample, with_confidence
from data_pipelines.datasets.builder import HandDataset
from data_pipelines.datasets.facts import DatasetFacts
from data_pipelines.datasets.layout import check_shapes
from handjax.errors import InputError
from handjax.pickles import read_pickle
from handjax.record import Side

_SIDES: tuple[Side, ...] = ("left", "right")
_LENS: dict[str, tuple[int, ...]] = {"K": (3, 3), "R": (3, 3), "t": (3, 1), "distCoef": (5,)}
_CENTIMETRES = 1e-2


class Mtc(HandDataset):
    """TFDS builder of the hands of MTC."""

    FACTS = DatasetFacts(
        name="mtc",
        description="Pictures of 40 people from 31 cameras around them, 1920 x 1080, with both hands in space.",
        homepage="https://github.com/CMU-Perceptual-Computing-Lab/MonocularTotalCapture",
        licence="for research purposes only, no commercial use (Panoptic Studio Dataset, Carnegie Mellon University)",
        citation="""@inproceedings{xiang2019monocular,
  author = {Xiang, Donglai and Joo, Hanbyul and Sheikh, Yaser},
  title = {Monocular Total Capture: Posing Face, Body, and Hands in the Wild},
  booktitle = {Proceedings of the IEEE Conference on Computer Vision and Pattern Recognition},
  year = {2019},
}""",
        download="unpack mtc_dataset.tar.gz of http://domedb.perception.cs.cmu.edu/mtc.html and name the folder that "
        "holds hdImgs, annotation.pkl and camera_data.pkl",
        parts={"train": "training_data", "eval": "testing_data"},
    )

    def samples(self, folder: Path, part: str) -> Iterator[Sample]:
        """Reads `annotation.pkl` and `camera_data.pkl`; a sample is a view of a frame with a hand in it."""
        annotations = read_pickle(folder / "annotation.pkl", self.FACTS.download)
        cameras_path = folder / "camera_data.pkl"
        cameras = read_pickle(cameras_path, self.FACTS.download)
        for frame in annotations[part]:
            name = f"{frame['seqName']}/{frame['frame_str']}"
            pictures = folder / "hdImgs" / name
            found = {path.name for path in pictures.glob("*.jpg")}
            if not found:
                raise InputError(f"{pictures}: no pictures in it; {self.FACTS.download}")
            hands = {side: frame[f"{side}_hand"] for side in _SIDES if f"{side}_hand" in frame}
            for view in sorted({view for hand in hands.values() for view in hand["2D"]}):
                picture = f"00_{view:02d}_{frame['frame_str']}.jpg"
                shown = {side: _in_view(hand, view) for side, hand in hands.items() if _is_shown(hand, view)}
                if picture not in found or not shown:
                    continue
                lens = cameras.get(frame["seqName"], {}).get(view, {})
                check_shapes(lens, _LENS, cameras_path, self.FACTS.download)
                entry = {"lens": lens, "hands": shown}
                yield Sample(f"{name}/{view:02d}", pictures / picture, entry)

    def hands(self, sample: Sample, size: tuple[int, int]) -> Iterator[HandAnnotation]:
        """The hands that are annotated in this view."""
        lens = {name: np.asarray(value, np.float64) for name, value in sample.entry["lens"].items()}
        for side, (world, occluded) in sample.entry["hands"].items():
            points = world @ lens["R"].T + lens["t"][:, 0]
            yield HandAnnotation(
                keypoints_2d=with_confidence(_distorted_pixels(points, lens) + HALF_PIXEL, 1.0 - occluded),
                side=side,
                keypoints_3d=with_confidence(points * _CENTIMETRES),
            )


def _is_shown(hand: dict[str, Any], view: int) -> bool:
    return view in hand["2D"] and not hand["2D"][view]["overlap"]


def _in_view(hand: dict[str, Any], view: int) -> tuple[Float[np.ndarray, "21 3"], Float[np.ndarray, "21"]]:
    """Places in the world, centimetres, and 1 where something hides them."""
    return np.reshape(hand["landmarks"], (21, 3)), np.asarray(hand["2D"][view]["occluded"], np.float64)


def _distorted_pixels(points: Float[np.ndarray, "21 3"], lens: dict[str, np.ndarray]) -> Float[np.ndarray, "21 2"]:
    """Pixels of points in camera space through a lens.

    Source: OpenCV's camera model with the coefficients k1, k2, p1, p2, k3.
    """
    k1, k2, p1, p2, k3 = lens["distCoef"]
    x, y = (points[:, :2] / points[:, 2:]).T
    square = x**2 + y**2
    radial = 1 + k1 * square + k2 * square**2 + k3 * square**3
    bent_x = radial * x + 2 * p1 * x * y + p2 * (square + 2 * x**2)
    bent_y = radial * y + 2 * p2 * x * y + p1 * (square + 2 * y**2)
    return np.column_stack([bent_x, bent_y, np.ones(21)]) @ lens["K"][:2].T
