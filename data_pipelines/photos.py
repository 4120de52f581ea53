"""A folder of photos as a TFDS data set of hand records."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import tensorflow_datasets as tfds
from tqdm import tqdm

from data_pipelines.captions import Captions
from data_pipelines.features import record_features, to_example
from data_pipelines.precompute import Failures, PhotoSet, photo_records
from data_pipelines.splits import EVAL_FRACTION, drop_empty, split_names
from handjax.errors import InputError
from handjax.images import find_images
from handjax.perception import HandDetector


@dataclasses.dataclass
class PhotosConfig(tfds.core.BuilderConfig):
    """What to read.

    Attributes:
      folder: of the photos, searched with its subfolders.
      limit: number of photos to take, evenly over the folder; 0 takes all.
      caption: template of the captions (`Captions`); "" is the default.
      licence: of the photos, as their source states it.
      max_hands: to look for in each photo.
      eval_fraction: share of the photos that is held out.
    """

    name: str = "default"
    folder: str = ""
    limit: int = 0
    caption: str = ""
    licence: str = ""
    max_hands: int = 2
    eval_fraction: float = EVAL_FRACTION


class HandPhotos(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of the hands in photos; give it a `PhotosConfig` and file_format="array_record".

    After `download_and_prepare` the attributes `failures` and `photo_count` say what became of the photos.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Hands found in photos by MediaPipe's networks, with conditions of a fitted open hand.",
            features=record_features(),
            license=self.builder_config.licence or None,
        )

    def _split_generators(self, dl_manager):
        config = self.builder_config
        folder = Path(config.folder)
        paths = find_images([folder])
        if 0 < config.limit < len(paths):
            paths = [paths[number * len(paths) // config.limit] for number in range(config.limit)]
        self.failures, self.photo_count = Failures(), len(paths)
        photos = PhotoSet(folder, Captions.load(folder, config.caption or None), config.licence or None)
        detector = HandDetector.load(max_hands=config.max_hands)
        names = split_names([path.relative_to(folder).as_posix() for path in paths], config.eval_fraction)
        splits = drop_empty(
            {
                split: self._generate_examples([folder / name for name in part], split, photos, detector)
                for split, part in names.items()
            }
        )
        if "train" not in splits:
            raise InputError(
                f"{folder}: none of {len(paths)} pictures gave a hand to train on ({self.failures.counts()}); "
                "give photos that show whole hands"
            )
        return splits

    def _generate_examples(
        self, paths: Sequence[Path], split: str, photos: PhotoSet, detector: HandDetector
    ) -> Iterator[tuple[str, dict]]:
        for record in photo_records(tqdm(paths, split, unit="photo"), photos, detector, self.failures):
            yield record.id, to_example(record)
