"""HIC, Hands in Action: two hands, or a hand and an object, filmed by one RGB-D camera, with MANO fits in its space.

The authors' download holds sequences of pictures and, apart, MANO's parameters and results a hand and frame. Files and
the camera are those of github.com/facebookresearch/InterWild (data/HIC/download.py, data/HIC/HIC.py), keys of the
pickles as github.com/adwardlee/RenderIH reads them (utils/dataset_gen/tzionas_generation.py); no description of theirs
could be read: `v` the vertices, `J_transformed` the joints in MANO's order, `pose`, `betas`, `trans`; metres, in camera
space. Fingertips are taken from the vertices, as it is not known whose the download's own are. `pose` is read as the
code that comes with MANO names it: the hand's turn and 45 coordinates of its pose space about the mean pose; where that
does not give `v` again, the picture is an error. The principal point is (319.5, 239.5) in pictures of 640 x 480, so
pixels count from the centre of the first one.
"""

from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from data_pipelines.datasets.annotation import (
    HALF_PIXEL,
    HandAnnotation,
    ManoHand,
    Sample,
    project_points,
    with_confidence,
)
from data_pipelines.datasets.builder import HandDataset
from data_pipelines.datasets.facts import DatasetFacts
from data_pipelines.datasets.layout import check_shapes
from data_pipelines.datasets.mano import posed_hand
from handjax.errors import InputError
from handjax.hand.mano import pose_from_pca
from handjax.hand.model import HandModel
from handjax.hand.topology import MANO_TIP_VERTICES, MANO_TO_OPENPOSE
from handjax.pickles import read_pickle
from handjax.record import Side

_FITS = "IJCV16___Results_MANO___parms_for___joints21"
_SIDES: dict[str, Side] = {"R": "right", "L": "left"}
_SHAPES: dict[str, tuple[int, ...]] = {
    **{"v": (778, 3), "J_transformed": (16, 3)},
    **{"pose": (48,), "betas": (10,), "trans": (3,)},
}
_CAMERA = np.array([525.0, 525.0, 319.5 + HALF_PIXEL, 239.5 + HALF_PIXEL])
_SAME = 1e-3
"""Metres by which a vertex that the parameters give may differ from the one in the file."""


class Hic(HandDataset):
    """TFDS builder of HIC."""

    FACTS = DatasetFacts(
        name="hic",
        description="Sequences, 640 x 480, of two hands in interaction and of hands with objects, with MANO fits.",
        homepage="https://files.is.tue.mpg.de/dtzionas/Hand-Object-Capture/",
        licence="for non-commercial scientific research (Max Planck Society)",
        citation="""@article{Tzionas:IJCV:2016,
  author = {Dimitrios Tzionas and Luca Ballan and Abhilash Srikantha and Pablo Aponte and Marc Pollefeys and
            Juergen Gall},
  title = {Capturing Hands in Action using Discriminative Salient Points and Physics Simulation},
  journal = {International Journal of Computer Vision (IJCV)},
  year = {2016},
}""",
        download="unpack the sequences 01.zip to 21.zip (All Files) and " + _FITS + ".zip (MANO compatible) of "
        "https://files.is.tue.mpg.de/dtzionas/Hand-Object-Capture/ into one folder",
        parts={"eval": "all"},
        left_shape="keep",
    )

    def samples(self, folder: Path, part: str) -> Iterator[Sample]:
        """Lists the frames that have a fit of either hand."""
        frames: dict[str, dict[Side, Path]] = {}
        for letter, side in _SIDES.items():
            for path in sorted(
                folder.glob(f"{_FITS}/IJCV16___fakeGT___IJCV___*___Model_Hand_{letter}___ncomps45/*.pkl")
            ):
                sequence = path.parent.name.split("___")[3]
                frames.setdefault(f"{sequence}/{path.stem}", {})[side] = path
        if not frames:
            raise InputError(f"{folder / _FITS}: no fits in it; {self.FACTS.download}")
        for name, fits in sorted(frames.items()):
            sequence, frame = name.split("/")
            yield Sample(name, folder / sequence / "1" / "rgb" / f"{frame}.png", fits)

    def hands(self, sample: Sample, size: tuple[int, int]) -> Iterator[HandAnnotation]:
        """The hands that are fitted."""
        for side, path in sample.entry.items():
            fit = read_pickle(path, self.FACTS.download)
            check_shapes(fit, _SHAPES, path, self.FACTS.download)
            tips = fit["v"][list(MANO_TIP_VERTICES[self.FACTS.tips])]
            points = np.concatenate([fit["J_transformed"], tips]).astype(np.float64)[MANO_TO_OPENPOSE]
            model = self.mano_model(side)
            yield HandAnnotation(
                keypoints_2d=with_confidence(project_points(points, _CAMERA)),
                side=side,
                keypoints_3d=with_confidence(points),
                mano=None if model is None else _mano_hand(model, fit, path),
                camera=_CAMERA,
            )


def _mano_hand(model: HandModel, fit: dict[str, np.ndarray], path: Path) -> ManoHand:
    turn, coefficients = jnp.float32(fit["pose"][:3]), jnp.float32(fit["pose"][3:])
    hand = ManoHand(np.asarray(pose_from_pca(model, turn, coefficients, zero="mean")), fit["betas"], fit["trans"])
    error = np.abs(posed_hand(model, hand).vertices - fit["v"]).max()
    if error > _SAME:
        raise InputError(f"{path}: your MANO gives vertices that are off by {1000 * error:.0f} mm; leave out --mano")
    return hand
