"""What the anatomy guide changes in pictures of the embedded model, and its price: `launch.bench guidance`.

`launch.bench guidance_prompts` says it of prompts that the model has not learnt, in five sets.
"""

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from handjax.conditions.crops import crop_image, hand_box
from handjax.errors import ConfigError, InputError
from handjax.hand.describe import describe_hand, with_article
from handjax.images import find_images, read_image, write_image
from handjax.inference.generate import Generator, Wish
from handjax.metrics.features import FeatureExtractor, effnet_lite0, picture_features
from handjax.metrics.frechet import Moments, frechet_distance
from handjax.metrics.kernel import kernel_distance_of_subsets
from handjax.perception import HandDetector
from launch.generate import read_prompts
from launch.generator import load_asked
from launch.judge import Image, Verdicts, judge_all, make_judge, reduction_item, share, verdict_shares
from launch.timing import interleaved, summary

SEED = 52_000
"""Of noise that the guide's settings were not chosen with."""
SIDE = 96
PROMPT_FILES = Path(__file__).parent / "assets" / "prompts"
PROMPT_SETS = ("gestures", "greeting", "tools", "food", "sports")
ASKED = ("--steps", "20", "--guidance-scale", "4", "--batch", "8", "--guidance")
WANTED_REDUCTION = 0.5


def bench_guidance(runs: int, photos: Path | None = None, samples: int = 512) -> Iterator[dict[str, Any]]:
    """The same noise and prompts without and with the guide, which has its default settings.

    Args:
      runs: of the timing.
      photos: folder of photographs of hands. What they show is asked for, and distances are to them.
      samples: pictures each way.

    Raises:
      ConfigError: there is no folder.
      InputError: hands are found in too few photographs.
    """
    if photos is None:
        raise ConfigError("guidance needs photographs of hands to compare with; name their folder with --photos")
    judge, extractor = make_judge(), effnet_lite0()
    prompts, crops = read_photos(photos, samples)
    wishes = [Wish(prompt, "", SEED + number) for number, prompt in enumerate(prompts)]
    reference = features_of(crops, extractor)
    generators = {guidance: load_asked(*ASKED, guidance) for guidance in ("none", "anatomy")}
    verdicts = {}
    for guidance, generator in generators.items():
        images = make_pictures(generator, wishes, guidance)
        verdicts[guidance] = judge_all(judge, images)
        yield from distance_items(guidance, features_of(images, extractor), reference)
    yield from verdict_items(verdicts["none"], verdicts["anatomy"])
    yield time_item(runs, generators["anatomy"], generators["none"], wishes)


def bench_guidance_prompts(_runs: int, samples: int = 20) -> Iterator[dict[str, Any]]:
    """The same noise without and with the guide, by the committed sets of prompts and over all of them.

    Args:
      samples: pictures each way of each set, whose prompts are taken in turn.
    """
    judge, sets = make_judge(), read_prompt_sets()
    asked = [prompt for prompts in sets.values() for prompt in itertools.islice(itertools.cycle(prompts), samples)]
    wishes = [Wish(prompt, "", SEED + number) for number, prompt in enumerate(asked)]
    without, guided = (
        judge_all(judge, make_pictures(load_asked(*ASKED, name), wishes, name)) for name in ("none", "anatomy")
    )
    for number, name in enumerate(sets):
        part = slice(number * samples, (number + 1) * samples)
        yield from verdict_items(without[part], guided[part], f", {name}")
    yield from verdict_items(without, guided)


def read_prompt_sets() -> dict[str, list[str]]:
    """The committed prompts by what they are about."""
    return {name: read_prompts(PROMPT_FILES / f"{name}.txt") for name in PROMPT_SETS}


def read_photos(folder: Path, count: int) -> tuple[list[str], list[Image]]:
    """Captions and crops of hands in photographs, as the embedded model learnt them.

    Raises:
      InputError: hands are found in too few photographs.
    """
    detector, prompts, crops = HandDetector.load(max_hands=1), [], []
    paths = find_images([folder])
    for path in tqdm(paths[:: max(1, len(paths) // (count + count // 10 + 1))], "photos", disable=None):
        image = read_image(path)
        for hand in detector.detect(image):
            prompts.append(f"a photo of {with_article(describe_hand(hand.world, hand.side))}")
            crops.append(crop_image(image, hand_box(hand.keypoints), SIDE))
    if len(prompts) < count:
        raise InputError(f"{folder}: hands were found in {len(prompts)} photographs; {count} are needed")
    return prompts[:count], crops[:count]


def make_pictures(generator: Generator, wishes: Sequence[Wish], name: str) -> list[Image]:
    """Pictures in the order of the wishes."""
    made = {wish.seed: image for wish, image in tqdm(generator(wishes), name, len(wishes), disable=None)}
    return [made[wish.seed] for wish in wishes]


def time_item(runs: int, guided: Generator, plain: Generator, wishes: Sequence[Wish]) -> dict[str, Any]:
    """Seconds of a full batch with the guide and without, in turn."""
    batch = list(itertools.islice(itertools.cycle(wishes), guided.batch))
    times = interleaved(lambda: list(guided(batch)), lambda: list(plain(batch)), runs + 1)[1:]  # the first one compiles
    return {**summary("a batch with the guide", "without", times), "pictures": len(batch)}


def features_of(images: Sequence[Image], extractor: FeatureExtractor) -> np.ndarray:
    """Features [pictures, features] as `launch.evaluate --suite distance` has them."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.png" for number in range(len(images))]
        for path, image in zip(paths, images, strict=True):
            write_image(path, image)
        return np.stack([np.asarray(features) for _, features in picture_features(paths, extractor)])


def distance_items(guidance: str, features: np.ndarray, reference: np.ndarray) -> Iterator[dict[str, Any]]:
    """How far a set of pictures is from the photographs."""
    common = {"unit": "(EffNet-Lite0)", "pictures": len(features), "reference_pictures": len(reference)}
    distance = frechet_distance(Moments.of(features), Moments.of(reference))
    yield {"name": f"guidance {guidance}, FD", "ours": distance, **common}
    yield {"name": f"guidance {guidance}, KID", "ours": kernel_distance_of_subsets(features, reference, 0), **common}


def verdict_items(without: Sequence[Verdicts], guided: Sequence[Verdicts], of: str = "") -> Iterator[dict[str, Any]]:
    """Hands that were found, implausible ones, and the change in the pictures that were judged both times.

    `of` ends the names, where these are some of the pictures.
    """
    named = ((f"guidance none{of}", without), (f"guidance anatomy{of}", guided))
    for name, verdicts in named:
        found = sum(verdict.whole is not None for verdict in verdicts)
        yield {"name": f"{name}, hands found", **share(found, len(verdicts))}
    for part in ("whole", "keypoints"):
        pairs = [(getattr(a, part), getattr(b, part)) for a, b in zip(without, guided, strict=True)]
        for name, verdicts in named:
            yield verdict_shares(name, verdicts, part)
        reduction = reduction_item(f"reduction of implausible hands{of} ({part})", pairs, SEED)
        yield reduction | {"wanted": WANTED_REDUCTION}
