"""DexYCB: a hand that grasps an object, seen by eight cameras, with keypoints, masks and MANO fits in camera space.

Layout and meaning are those of the authors' toolkit (github.com/NVlabs/dex-ycb-toolkit: dex_ycb_toolkit/dex_ycb.py for
files, order and the split s0, examples/visualize_pose.py and layers/mano_layer.py for MANO, hpe_eval.py for frames
without a hand, whose keypoints are all -1). Keypoints are in OpenPose's order, in metres. `pose_m` is the hand's turn,
45 coordinates of MANO's pose space about the mean pose, and the translation. Pixels count from the centre of the first
one: sequence_loader.py sends the ray of pixel 0 through x = 0.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from data_pipelines.datasets.annotation import HALF_PIXEL, HandAnnotation, ManoHand, Sample, with_confidence
from data_pipelines.datasets.builder import HandDataset
from data_pipelines.datasets.facts import DatasetFacts
from data_pipelines.datasets.layout import read_arrays, read_yaml
from handjax.errors import InputError
from handjax.hand.mano import pose_from_pca
from handjax.hand.model import HandModel

_SUBJECTS = (
    *("20200709-subject-01", "20200813-subject-02", "20200820-subject-03", "20200903-subject-04"),
    *("20200908-subject-05", "20200918-subject-06", "20200928-subject-07", "20201002-subject-08"),
    *("20201015-subject-09", "20201022-subject-10"),
)
_SEQUENCES = 100
_PARTS = {"s0_train": (_SUBJECTS, False), "s0_val": (_SUBJECTS[:2], True), "s0_test": (_SUBJECTS[2:], True)}
"""Subjects of a part, and whether it takes every fifth of their sequences or the others."""
_LABELS = {"seg": (480, 640), "pose_m": (1, 51), "joint_3d": (1, 21, 3), "joint_2d": (1, 21, 2)}
_HAND = 255


class DexYcb(HandDataset):
    """TFDS builder of DexYCB in its default split s0: all subjects, views and objects in training."""

    FACTS = DatasetFacts(
        name="dexycb",
        description="582,000 pictures, 640 x 480, of 10 people's hands that grasp 20 objects, with keypoints in space.",
        homepage="https://dex-ycb.github.io",
        licence="CC-BY-NC-4.0",
        citation="""@inproceedings{chao:cvpr2021,
  author = {Yu-Wei Chao and Wei Yang and Yu Xiang and Pavlo Molchanov and Ankur Handa and Jonathan Tremblay and
            Yashraj S. Narang and Karl {Van Wyk} and Umar Iqbal and Stan Birchfield and Jan Kautz and Dieter Fox},
  title = {{DexYCB}: A Benchmark for Capturing Hand Grasping of Objects},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
  year = {2021},
}""",
        download="unpack the archives of all subjects and calibration.tar.gz of https://dex-ycb.github.io into one "
        "folder (with --splits val the subjects 01 and 02 will do)",
        parts={"train": "s0_train", "val": "s0_val", "eval": "s0_test"},
        tips="manopth",
        left_shape="keep",
    )

    def samples(self, folder: Path, part: str) -> Iterator[Sample]:
        """Reads `meta.yml` of each sequence, and of `calibration` the cameras and the subjects' shapes."""
        subjects, is_fifth = _PARTS[part]
        calibration, remedy = folder / "calibration", self.FACTS.download

        @cache
        def camera(serial: str) -> Float[np.ndarray, "4"]:
            color = read_yaml(calibration / "intrinsics" / f"{serial}_640x480.yml", remedy)["color"]
            shift = np.array([0.0, 0.0, HALF_PIXEL, HALF_PIXEL])
            return np.array([color[name] for name in ("fx", "fy", "ppx", "ppy")], np.float64) + shift

        @cache
        def betas(name: str) -> Float[np.ndarray, "10"]:
            return np.array(read_yaml(calibration / f"mano_{name}" / "mano.yml", remedy)["betas"], np.float64)

        for subject in subjects:
            for number, sequence in enumerate(self._sequences(folder / subject)):
                if (number % 5 == 4) != is_fifth:
                    continue
                meta = read_yaml(sequence / "meta.yml", remedy)
                side, shape = meta["mano_sides"][0], betas(meta["mano_calib"][0])
                for serial in meta["serials"]:
                    entry = {"side": side, "betas": shape, "camera": camera(serial)}
                    for frame in range(meta["num_frames"]):
                        files = [
                            sequence / serial / name for name in (f"color_{frame:06d}.jpg", f"labels_{frame:06d}.npz")
                        ]
                        yield Sample(f"{subject}/{sequence.name}/{serial}/{frame:06d}", files[0], entry, (files[1],))

    def _sequences(self, subject: Path) -> list[Path]:
        """A subject's sequences in the order by which the splits number them."""
        found = sorted(path for path in subject.glob("*") if path.is_dir())
        if len(found) != _SEQUENCES:
            raise InputError(f"{subject}: {len(found)} sequences of {_SEQUENCES}; {self.FACTS.download}")
        return found

    def hands(self, sample: Sample, size: tuple[int, int]) -> Iterator[HandAnnotation]:
        """The hand, if it has come into the picture yet."""
        labels = read_arrays(sample.others[0], _LABELS, self.FACTS.download)
        points = labels["joint_3d"][0].astype(np.float64)
        if (points == -1).all():
            return
        model = self.mano_model(sample.entry["side"])
        theta, betas = labels["pose_m"][0].astype(np.float64), sample.entry["betas"]
        yield HandAnnotation(
            keypoints_2d=with_confidence(labels["joint_2d"][0] + HALF_PIXEL),
            side=sample.entry["side"],
            keypoints_3d=with_confidence(points),
            mano=ManoHand(_pose(model, theta[:48]), betas, theta[48:]) if model and theta.any() else None,
            camera=sample.entry["camera"],
            mask=labels["seg"] == _HAND,
        )


def _pose(model: HandModel, theta: Float[np.ndarray, "48"]) -> Float[np.ndarray, "16 3"]:
    turn, coefficients = jnp.float32(theta[:3]), jnp.float32(theta[3:])
    return np.asarray(pose_from_pca(model, turn, coefficients, zero="mean"))
