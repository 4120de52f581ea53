"""Turns the hands of pictures and clips into meshes.

python -m launch.reconstruct photo.jpg --out meshes/
python -m launch.reconstruct photos/ --model DIR --out meshes/ --format glb --json
python -m launch.reconstruct photo.jpg --out meshes/ --hypotheses 5 --explain why/ --viewer hands.html
python -m launch.reconstruct wave.gif frames/ --video --out meshes/ --viewer hands.html

`--model` is the --workdir of a run of mmhmr.py, or the folder that `launch.export --to handjax` made of it; without it
the small model of the package is taken. Each picture becomes one mesh a hand, red where the network is unsure and blue
where it is sure, one of all its hands where there are several, and a picture with the meshes drawn in.
"""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from handjax.errors import ConfigError, InputError
from handjax.hand.camera import DEFAULT_FOCAL_RATIO, PinholeCamera, default_camera, project
from handjax.hand.mano import load_hand
from handjax.hand.mesh_files import FORMATS, write_mesh
from handjax.images import find_images, read_frames, read_image, write_image
from handjax.inference.clip import smooth_clip, with_one_side
from handjax.inference.explain import Explainer
from handjax.inference.reconstruct import HandReconstructor
from handjax.inference.refine import MAX_KEYPOINT_ERROR
from handjax.inference.scene import ReconstructedHand, draw_meshes, reposed, scene_mesh, share_shapes
from handjax.perception import DetectedHand, HandDetector, HandTracker
from handjax.recovery.decoding import hidden_before
from handjax.recovery.files import ASSET, RecoveryModel, load_recovery
from handjax.tasks.mesh_recovery import MeshRecoveryTask
from launch import command
from launch.mesh_viewer import Viewer
from launch.recovery_plots import plot_decoding
from launch.runs import restore_run

Image = UInt8[np.ndarray, "height width 3"]
Clip = list[dict[int, ReconstructedHand]]


def main() -> int:
    arguments = _parse_arguments()
    report = command.Report("reconstruct", arguments.json)
    reconstructor = load_reconstructor(arguments.model, arguments.hand_model)
    explainer = Explainer(reconstructor.model, reconstructor.models["right"])
    job = Job(arguments, report, reconstructor, explainer, Viewer())
    if arguments.video:
        job.follow()
    else:
        job.read()
    if arguments.viewer:
        job.viewer.write(arguments.viewer)
    return report.finish()


def load_reconstructor(folder: Path, hand_model: str = "") -> HandReconstructor:
    """Reads a run's newest checkpoint, or exported weights.

    Args:
        folder: of the run or of the weights.
        hand_model: path of the MANO file that exported weights were trained with; empty is the open hand.

    Raises:
        CheckpointError: the run has no checkpoint, or its tokenizer or hand model has changed.
        ConfigError: the run is of another task, or the weights know another hand model.
        WeightsError: the weights cannot be read.
    """
    if not (folder / "checkpoints").is_dir():
        return HandReconstructor(load_recovery(folder), load_hand(hand_model))
    if hand_model:
        raise ConfigError(f"--hand-model {hand_model}: {folder} is a run, which names its own; leave it out")
    task, params = restore_run(folder, MeshRecoveryTask, "mmhmr.py")
    return HandReconstructor(RecoveryModel(task.network, params, task.tokenizer), task.hand)


@dataclasses.dataclass(frozen=True)
class Job:
    """What every picture and clip is read with."""

    arguments: argparse.Namespace
    report: command.Report
    reconstructor: HandReconstructor
    explainer: Explainer
    viewer: Viewer

    def read(self) -> None:
        """Reads each picture by itself; one failure leaves the others."""
        arguments = self.arguments
        detector = HandDetector.load("flax", max_hands=arguments.max_hands)
        paths: list[Path] = []
        for source in arguments.images:
            try:
                paths += find_images([source])
            except InputError as error:
                self.report.error(source, error)
        outputs = command.output_paths(paths, arguments.out)
        reasons = command.output_paths(paths, arguments.explain) if arguments.explain else {}
        boxes = np.array(arguments.box, np.float32) if arguments.box else None
        for path in tqdm(paths, "reconstruct", unit="picture", disable=None if arguments.json else True):
            try:
                image = read_image(path)
                with command.naming(path):
                    found = detector.detect(image) if boxes is None else detector.read(image, boxes)
                wanted = [hand for hand in found if self._is_wanted(hand)]
                if not wanted:
                    raise _nothing_to_read(path, found)
                self._read_picture(str(path), image, wanted, outputs[path], reasons.get(path))
            except InputError as error:
                self.report.error(str(path), error)

    def _read_picture(
        self, name: str, image: Image, found: Sequence[DetectedHand], output: Path, reason: Path | None
    ) -> None:
        camera, models = self._camera(image), self.reconstructor.models
        readable, hands = [], []
        for seen in found:  # one hand's failure leaves the others
            try:
                hands.append(self.reconstructor.read(image, seen, camera=camera))
                readable.append(seen)
            except InputError as error:
                self.report.error(name, InputError(f"{name}: {error}"))
        hands = share_shapes(models, hands, camera)
        items, drawn = [], dict[str, ReconstructedHand]()
        for number, (seen, hand) in enumerate(zip(readable, hands, strict=True)):
            item = self._write(hand, camera, output, str(number))
            if self.arguments.hypotheses:
                guesses = self._hypotheses(image, seen, hand, camera)
                item["hypotheses"] = [
                    self._write(guess, camera, output, f"{number}.{k}") for k, guess in enumerate(guesses)
                ]
                drawn |= {f"{number} {hand.side}, drawn {k}": guess for k, guess in enumerate(guesses)}
            if reason:
                self._explain(image, seen, reason.with_suffix(f".{number}"))
            items.append(item)
        labels = {f"{number} {hand.side}": hand for number, hand in enumerate(hands)}
        self._finish({"input": name}, name, image, camera, labels, items, output, drawn)

    def _hypotheses(
        self, image: Image, seen: DetectedHand, hand: ReconstructedHand, camera: PinholeCamera
    ) -> list[ReconstructedHand]:
        """Other poses of a hand, in its shape."""
        guesses = self.reconstructor.hypotheses(image, seen, self.arguments.hypotheses, camera=camera)
        return [reposed(self.reconstructor.models, guess, camera, hand.betas) for guess in guesses]

    def follow(self) -> None:
        """Follows hands through each clip; an item a frame, with the hands' identities."""
        arguments = self.arguments
        if arguments.box or arguments.hypotheses or arguments.explain:
            raise ConfigError("--video follows hands by itself; leave --box, --hypotheses and --explain away")
        sources = [Path(source) for source in arguments.images]
        outputs = command.clip_folders(sources, arguments.out)
        tracker = HandTracker.load(max_hands=arguments.max_hands, rate=arguments.rate)
        for source in sources:
            try:
                clip, camera = self._read_clip(source, tracker)
                for number, (image, hands) in enumerate(zip(read_frames(source), clip, strict=True)):
                    output = outputs[source] / f"{number:06}.png"
                    items = [
                        {"track": identity, **self._write(hand, camera, output, str(identity))}
                        for identity, hand in hands.items()
                    ]
                    labels = {f"#{identity} {hand.side}": hand for identity, hand in hands.items()}
                    frame = {"input": str(source), "frame": number}
                    self._finish(frame, f"{source}  frame {number}", image, camera, labels, items, output)
            except InputError as error:
                self.report.error(str(source), error)

    def _read_clip(self, source: Path, tracker: HandTracker) -> tuple[Clip, PinholeCamera]:
        """The smoothed hands of each frame.

        Raises:
            InputError: there is no frame, or no hand in any.
        """
        clip: Clip = []
        failures: list[str] = []
        others: list[DetectedHand] = []
        camera = None
        followed = tqdm(tracker.track(read_frames(source)), f"follow {source.name}", unit="frame", disable=None)
        tracks = with_one_side([found for _, found in followed])
        frames = zip(read_frames(source), tracks, strict=True)  # once more: a clip need not fit into the memory
        for image, found in tqdm(frames, f"read {source.name}", len(tracks), unit="frame", disable=None):
            camera = camera or self._camera(image)
            clip.append({})
            for identity, hand in found.items():
                if not self._is_wanted(hand):
                    others.append(hand)
                    continue
                try:
                    clip[-1][identity] = self.reconstructor.read(image, hand, camera=camera)
                except InputError as error:
                    failures.append(f"in frame {len(clip) - 1}: {error}")
        if camera is None or not (any(clip) or failures):
            raise _nothing_to_read(source, others)
        if failures:
            count = f"{len(failures)} times a hand could not be read, first {failures[0]}"
            self.report.error(str(source), InputError(f"{source}: {count}"))
        return smooth_clip(self.reconstructor.models, clip, camera, self.arguments.rate), camera

    def _camera(self, image: Image) -> PinholeCamera:
        height, width = image.shape[:2]
        camera, focal = default_camera(height, width), self.arguments.focal
        return camera if focal is None else PinholeCamera(jnp.full(2, focal, jnp.float32), camera.center)

    def _is_wanted(self, hand: DetectedHand) -> bool:
        return self.arguments.side in (None, hand.side)

    def _write(self, hand: ReconstructedHand, camera: PinholeCamera, output: Path, name: str) -> dict[str, Any]:
        path = output.with_suffix(f".{name}.{self.arguments.format}")
        write_mesh(path, scene_mesh([hand]))
        return {"side": hand.side, "mesh": str(path), **hand_parameters(hand, camera)}

    def _finish(
        self,
        item: dict[str, Any],
        name: str,
        image: Image,
        camera: PinholeCamera,
        hands: Mapping[str, ReconstructedHand],
        items: list[dict[str, Any]],
        output: Path,
        hypotheses: Mapping[str, ReconstructedHand] | None = None,
    ) -> None:
        """Writes what all hands of a picture or frame make together."""
        write_image(output, draw_meshes(image, list(hands.values()), camera))
        item |= {"overlay": str(output), "hands": items}
        if len(hands) > 1:
            item["scene"] = str(output.with_suffix(f".{self.arguments.format}"))
            write_mesh(Path(item["scene"]), scene_mesh(list(hands.values())))
        rows = [f"{name}  {describe(each)}" for each in items]
        self.report.item(item, "\n".join(rows) or f"{name}  no hand could be read")
        if self.arguments.viewer:
            self.viewer.add(name, image, camera, hands, hypotheses or {})

    def _explain(self, image: Image, hand: DetectedHand, path: Path) -> None:
        """Writes MMHMR's Figs. 9, 10 and 16 of a hand."""
        crop, cue = (each[None] for each in self.reconstructor.crop(image, hand))
        _, decoded = self.explainer.read(crop, cue)
        hidden, sure = np.asarray(hidden_before(decoded))[:, 0], np.asarray(decoded.mean_confidence)[:, 0]
        plot_decoding(path.with_name(path.name + ".decoding.png"), hidden.astype(np.float32), sure)
        write_image(path.with_name(path.name + ".ranks.png"), self.explainer.less_likely(crop, cue)[0])
        write_image(path.with_name(path.name + ".points.png"), self.explainer.looks(crop, cue)[0])


def _nothing_to_read(source: Path, others: Sequence[DetectedHand]) -> InputError:
    """Says that there is no hand, or only the other one."""
    if not others:
        return InputError(f"{source}: no hand found; show a whole hand, larger and in focus")
    hand = others[0]
    x, y = np.round((hand.box[:2] + hand.box[2:]) / 2).astype(int)
    sure = f"a {hand.side} one by {hand.score:.0%}"
    return InputError(f"{source}: the hand at {x}, {y} is {sure}; leave --side away to read it")


def describe(item: dict[str, Any]) -> str:
    """One line of a hand, with a warning where its mesh is not that of the hand that was found."""
    line, error = f"{item['side']:5}  confidence {item['confidence']:.2f}  {item['mesh']}", item["keypoint_error"]
    return line if error < MAX_KEYPOINT_ERROR else f"{line}  misread: {error:.0%} of the box off its keypoints"


def hand_parameters(hand: ReconstructedHand, camera: PinholeCamera) -> dict[str, Any]:
    """A hand as the JSON contract has it (docs/design.md)."""
    keypoints = np.asarray(project(camera, jnp.asarray(hand.keypoints)))
    return {
        "confidence": round(float(hand.confidence.mean()), 4),
        "joint_confidence": hand.confidence.astype(float).round(4).tolist(),
        "token_confidence": hand.token_confidence.astype(float).round(4).tolist(),
        "log_likelihood": round(hand.log_likelihood, 4),
        "keypoint_error": round(hand.keypoint_error, 4),
        "keypoints": keypoints.astype(float).round(2).tolist(),
        "world": hand.keypoints.astype(float).round(5).tolist(),
        "pose": hand.pose.astype(float).round(5).tolist(),
        "betas": hand.betas.astype(float).round(4).tolist(),
        "camera": {
            "focal": camera.focal.tolist(),
            "center": camera.center.tolist(),
            "translation": hand.translation.astype(float).round(5).tolist(),
        },
    }


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="launch.reconstruct", description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", metavar="IMAGE|DIR", help="pictures, or folders of them")
    parser.add_argument(
        "--model", type=Path, default=ASSET, metavar="DIR", help="a run of mmhmr.py, or exported weights"
    )
    parser.add_argument(
        "--out", type=command.output_folder, required=True, metavar="DIR", help="for meshes and pictures"
    )
    parser.add_argument("--format", choices=[ending[1:] for ending in FORMATS], default="obj", help="of the meshes")
    parser.add_argument("--hand-model", default="", metavar="FILE", help="MANO file of exported weights that know MANO")
    parser.add_argument("--max-hands", type=int, default=2, help="hands to find in a picture at most")
    parser.add_argument(
        "--box",
        nargs=4,
        type=float,
        action="append",
        metavar=("X0", "Y0", "X1", "Y1"),
        help="read the hand in this box, pixels, instead of looking for hands; repeat for more",
    )
    parser.add_argument("--side", choices=["left", "right"], help="read only this hand")
    parser.add_argument(
        "--focal",
        type=command.positive(float),
        metavar="PIXELS",
        help=f"focal length, which all distances hang on; {DEFAULT_FOCAL_RATIO:g} longer sides where it is not given",
    )
    drawn = "also draw N poses of each hand, the likeliest first"
    parser.add_argument("--hypotheses", type=command.positive(int), default=0, metavar="N", help=drawn)
    parser.add_argument(
        "--explain",
        type=command.output_folder,
        metavar="DIR",
        help="for plots of decoding, meshes of less likely tokens and points that are looked at",
    )
    parser.add_argument("--viewer", type=command.output_file, metavar="FILE", help="page that shows all hands in space")
    parser.add_argument("--video", action="store_true", help="inputs are clips: animated pictures, folders of frames")
    parser.add_argument("--rate", type=float, default=30.0, help="frames of a clip a second")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of lines")
    return parser.parse_args()


if __name__ == "__main__":
    command.run(main)
