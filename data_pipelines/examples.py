"""One training example out of a record: its window, its appearance, and the fields that a task asks for."""

import dataclasses
import functools
import io
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float
from PIL import Image
from scipy.spatial.transform import Rotation

from data_pipelines.appearance import Appearance, Patch, change_colors, draw_patch, move_keypoints
from data_pipelines.options import LoaderConfig
from data_pipelines.transforms import Augmentation, Window, draw_window
from handjax.adapters.hand_tokens import hand_tokens
from handjax.conditions.crops import box_side
from handjax.conditions.pictures import inpaint_mask
from handjax.diffusion.model import find_model
from handjax.diffusion.tokenizer import Tokenizer
from handjax.errors import ConfigError, InputError
from handjax.hand.draw import draw_skeleton
from handjax.hand.topology import KEYPOINT_BONES
from handjax.hand.words import swap_sides, told_by
from handjax.inference.scene import turn_to
from handjax.record import HandRecord

log = logging.getLogger(__name__)

Example = dict[str, np.ndarray]
_MASK_PADDING_RANGE = (0.5, 2.0)
_CAPTIONS_KEPT = 65_536
_SHAPES = 10


@dataclasses.dataclass(frozen=True)
class _View:
    """What one example shows of its record.

    Attributes:
      record: of the hand.
      window: into its picture.
      known: keypoints whose place the record knows.
      places: of the keypoints in the window, pixels; all finite.
      padding: factors of the mask's padding; None where the whole picture is to be painted.
      noisy: the places as training sees them.
      patch: hides part of the hand.
      rng: source of the photo's changes.
    """

    record: HandRecord
    window: Window
    known: Bool[np.ndarray, "21"]
    places: Float[np.ndarray, "21 2"]
    padding: Float[np.ndarray, "4"] | float | None
    noisy: Float[np.ndarray, "21 2"]
    patch: Patch | None
    rng: np.random.Generator

    @functools.cached_property
    def depth(self) -> Float[np.ndarray, "size size"]:
        """The depth condition, which also tells the mask where the hand is."""
        return self.window.map(_need(self.record, "depth"))

    def weight(self) -> Float[np.ndarray, "21"]:
        """The record's confidence in each keypoint; 0 where its place is unknown."""
        if self.record.keypoints_2d is None:
            return np.zeros(21, np.float32)
        return np.where(self.known, np.nan_to_num(self.record.keypoints_2d[:, 2]), 0).astype(np.float32)

    def confidence(self) -> Float[np.ndarray, "21"]:
        """The same, 0 also where a keypoint is outside the window or under the patch."""
        seen = ((self.places >= 0) & (self.places < self.window.size)).all(axis=-1)
        if self.patch is not None:
            seen &= ~self.patch.covers(self.places)
        return np.where(seen, self.weight(), 0).astype(np.float32)


class ExampleMaker:
    """Makes the fields of one example from a record and the example's own randomness.

    Raises:
      ConfigError: a field that records cannot give.
    """

    def __init__(self, options: LoaderConfig, batch_spec: Mapping[str, jax.ShapeDtypeStruct], training: bool):
        self._makers: dict[str, Callable[[_View], np.ndarray]] = {
            "image": self._image,
            "mask": lambda view: _mask(view)[..., None],
            "depth": lambda view: view.depth[..., None],
            "mesh": lambda view: view.window.map(_need(view.record, "mesh"))[..., None],
            "keypoints": lambda view: view.noisy,
            "keypoints_valid": lambda view: np.array(view.known.any()),
            "keypoints_known": lambda view: view.known,
            "keypoints_confidence": lambda view: view.confidence(),
            "keypoints_weight": lambda view: view.weight(),
            "box_side": lambda view: np.array(box_side(view.places), np.float32),
            "pose": lambda view: pose_of(view.record, view.window),
            "betas": lambda view: _mesh(view.record)[1],
            "mesh_known": lambda view: np.array(view.record.hand_model == options.hand_model),
            "keypoints_3d": lambda view: _in_space(view)[0],
            "keypoints_3d_known": lambda view: _in_space(view)[1],
            "is_right": lambda view: np.array((_need(view.record, "side") == "right") != view.window.mirrored),
            "input_ids": lambda view: self._tokenize(self._caption(view)),
            "hand_tokens": lambda view: self._find_hands(self._caption(view)),
        }
        self._names = sorted(without_skeleton(batch_spec))
        unknown = sorted(set(self._names) - set(self._makers))
        if unknown:
            raise ConfigError(f"the task asks for {unknown[0]!r}; records give {', '.join(self._makers)}, skeleton")
        self._options = options
        self._training = training
        self._augmented = training and options.augment
        self._augmentation = options.augmentation if self._augmented else Augmentation()
        self._appearance = options.appearance if self._augmented else Appearance()
        tokenizer = Tokenizer(str(find_model(options.tokenizer)), options.max_length)
        self._tokenize = _remember(_CaptionReader(tokenizer))
        self._find_hands = _remember(_HandFinder(tokenizer))
        self._captions = _read_captions(options.captions) if options.captions else {}

    def __call__(self, record: HandRecord, rng: np.random.Generator) -> Example:
        try:
            view = self._draw_view(record, rng)
            return {name: self._makers[name](view) for name in self._names}
        except (OSError, SyntaxError, EOFError) as error:  # of Pillow
            raise InputError(
                f"record {record.id}: a picture of it is damaged ({error}); prepare the records again"
            ) from error

    def _draw_view(self, record: HandRecord, rng: np.random.Generator) -> _View:
        """Draws window and mask first, so that they are the same whatever else is changed."""
        record_side = Image.open(io.BytesIO(record.image)).width
        window = draw_window(record_side, self._options.image_size, self._window_of(record), rng)
        padding = self._draw_padding(rng) if "mask" in self._names else None
        found = _keypoints(record, window)
        known = np.isfinite(found).all(axis=-1)
        places = _complete(found, known, window.size)
        noisy = move_keypoints(found, window.hand_side, self._appearance.keypoint_noise, rng)
        patch = draw_patch(places, window.hand_side, self._appearance, rng)
        return _View(record, window, known, places, padding, _complete(noisy, known, window.size), patch, rng)

    def _window_of(self, record: HandRecord) -> Augmentation:
        if not self._options.only_right:
            return self._augmentation
        return dataclasses.replace(self._augmentation, flip_prob=float(_need(record, "side") == "left"))

    def _draw_padding(self, rng: np.random.Generator) -> np.ndarray | float | None:
        if self._training and rng.random() < self._options.full_mask_prob:
            return None
        return rng.uniform(*_MASK_PADDING_RANGE, 4) if self._augmented else 1.0

    def _caption(self, view: _View) -> str:
        caption = self._captions.get(view.record.id, view.record.caption or "")
        return swap_sides(caption) if view.window.mirrored else caption

    def _image(self, view: _View) -> np.ndarray:
        photo = change_colors(view.window.photo(view.record.image), self._appearance, view.rng)
        return photo if view.patch is None else view.patch.paint(photo)


def _mask(view: _View) -> np.ndarray:
    size = view.window.size
    if view.padding is None:
        return np.ones((size, size), np.float32)
    # without keypoints the hand's extent is that of its mesh
    points = view.places if view.known.any() else np.argwhere(view.depth)[:, ::-1]
    return inpaint_mask(view.depth, points, view.padding)


def pose_of(record: HandRecord, window: Window) -> Float[np.ndarray, "16 3"]:
    """A record's pose as its hand is seen in a window, axis-angle in radians; zeros where it has none."""
    pose, turn = _mesh(record)[0], _to_window(record, window)
    if record.pose is None:
        return pose
    unmirrored = turn * [[-1], [1], [1]] if window.mirrored else turn
    whole = (Rotation.from_matrix(unmirrored) * Rotation.from_rotvec(pose[0])).as_rotvec()
    turned = np.concatenate([whole[None], pose[1:]]).astype(np.float32)
    return turned * np.array([1, -1, -1], np.float32) if window.mirrored else turned  # DECISIONS G4


def _to_window(record: HandRecord, window: Window) -> Float[np.ndarray, "3 3"]:
    """Takes directions of the record's camera space to those of a camera that looks along the ray of the window's
    middle, as that of every crop does (`HandReconstructor` turns back)."""
    if record.camera is None:
        return window.turn
    middle = window.matrix @ [window.size / 2, window.size / 2, 1]
    along_the_ray = turn_to((middle - record.camera[2:]) / record.camera[:2])
    return window.turn @ Rotation.from_rotvec(along_the_ray).as_matrix().T


def _mesh(record: HandRecord) -> tuple[Float[np.ndarray, "16 3"], Float[np.ndarray, "10"]]:
    """Pose and betas; zeros stand for what is not known, of which `mesh_known` tells."""
    if record.pose is None:
        return np.zeros((16, 3), np.float32), np.zeros(_SHAPES, np.float32)
    return record.pose, _need(record, "betas")


def _in_space(view: _View) -> tuple[Float[np.ndarray, "21 3"], Bool[np.ndarray, "21"]]:
    """Places from the wrist as the window turns them, metres, and which are known; others are zeros."""
    if view.record.keypoints_3d is None:
        return np.zeros((21, 3), np.float32), np.zeros(21, bool)
    places = view.record.keypoints_3d[:, :3] - view.record.keypoints_3d[:1, :3]
    known = np.isfinite(places).all(axis=-1)
    turned = np.where(known[:, None], places, 0) @ _to_window(view.record, view.window).T
    return turned.astype(np.float32), known


def _need(record: HandRecord, name: str) -> Any:
    value = getattr(record, name)
    if value is None:
        raise InputError(f"record {record.id} has no {name}, which the task needs; prepare it with launch.precompute")
    return value


def _keypoints(record: HandRecord, window: Window) -> Float[np.ndarray, "21 2"]:
    """Keypoints in the window, NaN where the record has none."""
    if record.keypoints_2d is None:
        return np.full((21, 2), np.nan, np.float32)
    return window.points(record.keypoints_2d[:, :2])


def _complete(places: Float[np.ndarray, "21 2"], known: Bool[np.ndarray, "21"], size: int) -> Float[np.ndarray, "21 2"]:
    """Gives keypoints without a place, which would poison a batch, that of the joint before them: no bone is drawn.

    Where the wrist has none it gets the middle of the others; where all have none, the picture's.
    """
    if known.all():
        return places
    middle = places[known].mean(axis=0) if known.any() else np.float32(size / 2)
    places = np.where(known[:, None], places, middle)
    for parent, child in KEYPOINT_BONES[~known[1:]]:
        places[child] = places[parent]
    return places


def _read_captions(path: str) -> dict[str, str]:
    try:
        captions = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"data.captions={path}: cannot be read ({error}); give JSON, captions by record id") from error
    if not isinstance(captions, dict) or not all(isinstance(caption, str) for caption in captions.values()):
        raise InputError(f"data.captions={path}: not an object of texts; give JSON, captions by record id")
    return captions


class _Tally:
    """Counts captions of a kind; says how many there have been, at the first, tenth, hundredth, …"""

    def __init__(self, kind: str):
        self._kind = kind
        self._count = 0

    def add(self, caption: str) -> None:
        self._count += 1
        if self._count == 10 ** (len(str(self._count)) - 1):
            log.warning("captions %s: %d, as %r", self._kind, self._count, caption)


class _CaptionReader:
    """Encodes a caption, and tells of those whose end is cut off."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._cut = _Tally(f"of more than {tokenizer.room} tokens, whose end is lost")

    def __call__(self, caption: str) -> np.ndarray:
        if self._tokenizer.excess(caption):
            self._cut.add(caption)
        return self._tokenizer([caption])[0]


class _HandFinder:
    """Marks a caption's words on hands, and tells of those without any."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._without = _Tally(f"without a word on hands (by {told_by()}), which get no bias")

    def __call__(self, caption: str) -> np.ndarray:
        tokens = hand_tokens(self._tokenizer, [caption])[0]
        if not tokens.any():
            self._without.add(caption)
        return tokens


def _remember(read: Callable[[str], np.ndarray]) -> Callable[[str], np.ndarray]:
    """Reads the same captions, which come again in every pass, only once."""
    return functools.lru_cache(maxsize=_CAPTIONS_KEPT)(read)


def without_skeleton(batch_spec: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.ShapeDtypeStruct]:
    """The fields to make for each example; the skeleton is drawn for the whole batch at once, from its keypoints."""
    fields = {name: spec for name, spec in batch_spec.items() if name != "skeleton"}
    if "skeleton" not in batch_spec:
        return fields
    return {
        "keypoints": jax.ShapeDtypeStruct((21, 2), np.float32),
        "keypoints_valid": jax.ShapeDtypeStruct((), np.bool_),
    } | fields


def add_skeletons(batch: Example, names: tuple[str, ...], size: int) -> Example:
    """Draws the skeletons of a batch.

    Args:
      batch: with keypoints and keypoints_valid.
      names: the fields of the result.
      size: side of the pictures in pixels.
    """
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        skeletons = np.asarray(_draw_skeletons(batch["keypoints"], batch["keypoints_valid"], size))
    batch = batch | {"skeleton": skeletons}
    return {name: batch[name] for name in names}


@functools.partial(jax.jit, static_argnames="size")
def _draw_skeletons(keypoints, valid, size: int):
    return jax.vmap(lambda points, seen: draw_skeleton(points, size, size, seen * jax.numpy.ones(21)))(keypoints, valid)
