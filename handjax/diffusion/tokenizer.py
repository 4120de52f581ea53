"""Prompts to token ids, by the tokenizer in a model's folder."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from handjax.errors import WeightsError

FILES = ("vocab.json", "merges.txt")


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """CLIP's tokenizer, transformers' implementation.

    Args:
        folder: with vocab.json and merges.txt.
        length: tokens in a prompt, start and end included; longer prompts are cut, shorter ones padded.
    """

    folder: str
    length: int = 77

    def __call__(self, prompts: Sequence[str]) -> Int[np.ndarray, "batch tokens"]:
        """Encodes prompts.

        Raises:
            WeightsError: the folder lacks a file.
        """
        encoded = _load(self.folder)(list(prompts), padding="max_length", max_length=self.length, truncation=True)
        return np.asarray(encoded["input_ids"], np.int32)

    def bare(self, text: str) -> list[int]:
        """Encodes a text of any length, without start, end and padding; raises as `__call__`."""
        return _load(self.folder)(text, add_special_tokens=False, verbose=False)["input_ids"]

    @property
    def start(self) -> int:
        """The id before a prompt."""
        return _load(self.folder).bos_token_id

    @property
    def end(self) -> int:
        """The id after a prompt."""
        return _load(self.folder).eos_token_id

    @property
    def padding(self) -> int:
        """The id that fills a prompt up."""
        return _load(self.folder).pad_token_id


@functools.lru_cache
def _load(folder: str):
    missing = [name for name in FILES if not (Path(folder) / name).is_file()]
    if missing:
        raise WeightsError(f"{folder}: {', '.join(missing)} missing; copy the tokenizer folder of the model")
    # Imported here because transformers takes seconds to import.
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder)
