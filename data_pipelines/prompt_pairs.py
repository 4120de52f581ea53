"""Triples of prompts that name a direction: neutral, positive, negative. What concept sliders learn from."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import grain
import jax
import ml_collections
import numpy as np

from data_pipelines.loader import share_of_batches
from handjax.diffusion.tokenizer import Tokenizer
from handjax.errors import InputError

FOLDER = Path(__file__).parent / "prompts"


@dataclasses.dataclass(frozen=True)
class PromptPair:
    """A direction in words.

    Attributes:
      neutral: what is asked for in any case.
      positive: the same as it should be.
      negative: the same as it should not be.
    """

    neutral: str
    positive: str
    negative: str


def read_pairs(path: str) -> list[PromptPair]:
    """Reads a JSON list of objects with the three prompts.

    Args:
      path: of a file, or the name of one in data_pipelines/prompts without its ending.

    Raises:
      InputError: no such file, or another content.
    """
    file = FOLDER / f"{path}.json" if (FOLDER / f"{path}.json").is_file() else Path(path)
    try:
        document = json.loads(file.read_text("utf-8"))
        pairs = [PromptPair(**{name: str(text) for name, text in entry.items()}) for entry in document]
    except OSError as error:
        known = ", ".join(sorted(known.stem for known in FOLDER.glob("*.json")))
        raise InputError(f"data.path={path}: no file of prompts; give a JSON file or one of {known}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file}: not a list of prompts ({error}); each entry needs neutral, positive and negative"
        ) from error
    if not pairs:
        raise InputError(f"{file}: holds no prompts; give at least one entry")
    return pairs


def make_loader(
    config: ml_collections.ConfigDict,
    batch_spec: Mapping[str, jax.ShapeDtypeStruct],
    batch_size: int,
    seed: int,
    split: str,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.IterDataset:
    """Makes the endless stream of this process's batches, as `data_pipelines.loader.make_loader`.

    Args:
      config: the recipe's `data` section with `path` (`read_pairs`), and tokenizer and max_length of the task's model.
      batch_spec: what the task takes: neutral_ids, positive_ids, negative_ids.
      batch_size: of the global batch.
      seed: of the order; "eval" has that of the file.
      split: "train" or "eval", of the same prompts: what differs is the noise.
      process_index: of this process.
      process_count: must divide `batch_size`.

    Raises:
      ConfigError: processes that do not divide the batch.
      InputError: the prompts cannot be read.
    """
    tokenizer, pairs = Tokenizer(config.tokenizer, config.max_length), read_pairs(config.path)
    columns = {
        f"{field.name}_ids": tokenizer([getattr(pair, field.name) for pair in pairs])
        for field in dataclasses.fields(PromptPair)
    }
    rows = [{name: np.asarray(ids[number]) for name, ids in columns.items()} for number in range(len(pairs))]
    dataset = grain.MapDataset.source(rows)
    if split == "train":
        dataset = dataset.shuffle(seed=seed % 2**32)
    return share_of_batches(dataset.repeat(), batch_size, process_index, process_count).to_iter_dataset(
        grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    )
