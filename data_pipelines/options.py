"""The fields of a recipe's `data` section, and the values that they take."""

import dataclasses
from typing import Any

import ml_collections

from data_pipelines.appearance import Appearance
from data_pipelines.transforms import Augmentation
from handjax.errors import ConfigError

# Least and greatest value, for pairs of both their numbers.
_RANGES = {
    "crop_scale": (0.1, 2.0),  # 2 is the whole record
    "max_shift": (0.0, 1.0),
    "max_rotation": (0.0, 180.0),
    "flip_prob": (0.0, 1.0),
    "brightness": (0.0, 1.0),
    "contrast": (0.0, 1.0),
    "saturation": (0.0, 1.0),
    "hue": (0.0, 0.5),
    "occlusion_prob": (0.0, 1.0),
    "occlusion_size": (0.01, 2.0),
    "keypoint_noise": (0.0, 1.0),
    "full_mask_prob": (0.0, 1.0),
}
_PAIRS = ("crop_scale", "occlusion_size")


@dataclasses.dataclass(frozen=True)
class LoaderConfig:
    """The fields of a recipe's `data` section.

    Attributes:
      path: folders of prepared records, separated by commas. Records of "folder@3" are seen three times as often.
      image_size: side of the examples in pixels.
      shuffle: whether every pass over the records has its own order.
      augment: whether the training split is augmented by the fields that follow, down to `keypoint_noise`.
      crop_scale, max_shift, max_rotation, flip_prob: see `Augmentation`.
      brightness, contrast, saturation, hue, occlusion_prob, occlusion_size, keypoint_noise: see `Appearance`; the
        defaults change nothing. A patch over the hand is for tasks that read hands, not for those that paint them.
      only_right: whether left hands are mirrored and right ones never, for networks of right hands; `flip_prob` is then
        of no account (DECISIONS B4).
      hand_model: name of the hand model whose poses the task takes; those of others do not count as known.
      full_mask_prob: how often a training example's whole picture is to be painted.
      tokenizer: folder of the CLIP tokenizer for `input_ids`, or its name in the package's assets.
      max_length: number of tokens of a caption.
      captions: JSON file of captions by record id, which take the place of the records' own.
      read_threads: threads that make batches ahead of time.
      encoded: whether `path` is one folder of encoded examples (`launch.encode`); augmentation is then in them.
      loader: names the loader's module in the recipe.
    """

    path: str
    image_size: int = 512
    shuffle: bool = True
    augment: bool = True
    crop_scale: tuple[float, float] = (1.3, 1.9)
    max_shift: float = 0.15
    max_rotation: float = 15.0
    flip_prob: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    occlusion_prob: float = 0.0
    occlusion_size: tuple[float, float] = Appearance.occlusion_size
    keypoint_noise: float = 0.0
    only_right: bool = False
    hand_model: str = "open_hand"
    full_mask_prob: float = 0.0
    tokenizer: str = ""
    max_length: int = 77
    captions: str = ""
    read_threads: int = 2
    encoded: bool = False
    loader: str = ""

    @classmethod
    def from_config(cls, config: ml_collections.ConfigDict) -> "LoaderConfig":
        """Reads the recipe's section.

        Raises:
          ConfigError: a field that this loader does not know, or a value out of its range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(config) - known)
        if unknown:
            raise ConfigError(
                f"data.{unknown[0]} is unknown to data_pipelines.loader; it has {', '.join(sorted(known))}"
            )
        for name in sorted(set(config) & set(_RANGES)):
            _check_range(name, config[name], *_RANGES[name])
        return cls(**dict(config))

    @property
    def augmentation(self) -> Augmentation:
        """How windows are drawn."""
        return Augmentation(**self._fields_of(Augmentation))

    @property
    def appearance(self) -> Appearance:
        """How what is seen in them is changed."""
        return Appearance(**self._fields_of(Appearance))

    def _fields_of(self, part: type) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(part)}


def _check_range(name: str, value: Any, least: float, greatest: float) -> None:
    if name in _PAIRS:
        fits = len(value) == 2 and least <= value[0] <= value[1] <= greatest
        wanted = f"two numbers from {least:g} to {greatest:g}, the smaller first"
    else:
        fits = least <= value <= greatest
        wanted = f"from {least:g} to {greatest:g}"
    if not fits:
        raise ConfigError(f"data.{name} is {value}; it must be {wanted}")
