"""Prompts to token ids, by the tokenizer in a model's folder."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from handjax.errors import WeightsError

# What a tokenizer is read from: the first of these that is whole. transformers 5 writes one file, earlier ones two.
FILES = (("tokenizer.json",), ("vocab.json", "merges.txt"))


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """CLIP's tokenizer, transformers' implementation.

    Args:
        folder: with tokenizer.json, or vocab.json and merges.txt.
        length: tokens in a prompt, start and end included; longer prompts are cut, shorter ones padded.
    """

    folder: str
    length: int = 77

    def __call__(self, prompts: Sequence[str]) -> Int[np.ndarray, "batch tokens"]:
        """Encodes prompts.

        Raises:
            WeightsError: the folder lacks a file, or one is damaged.
        """
        ids = np.full((len(prompts), self.length), self.padding, np.int32)
        for row, prompt in zip(ids, prompts, strict=True):
            framed = [self.start, *self.bare(prompt)[: self.room], self.end]
            row[: len(framed)] = framed
        return ids

    @property
    def room(self) -> int:
        """Tokens in a prompt beside start and end."""
        return self.length - 2

    def excess(self, prompt: str) -> int:
        """How many tokens of a prompt are cut off; raises as `__call__`."""
        return max(0, len(self.bare(prompt)) - self.room)

    def offsets(self, prompts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Start and end in the prompt of each of its tokens, in characters; (0, 0) for start, end and padding.

        Raises as `__call__`.
        """
        kept = [self.bare_offsets(prompt)[: self.room] for prompt in prompts]
        return [[(0, 0), *offsets] + [(0, 0)] * (self.length - 1 - len(offsets)) for offsets in kept]

    # All calls leave cutting and padding to this class: in transformers they are settings of the one tokenizer, which
    # the threads of a data loader would change under each other.
    def bare(self, text: str) -> list[int]:
        """Encodes a text of any length, without start, end and padding; raises as `__call__`."""
        return _load(self.folder)(text, add_special_tokens=False, verbose=False)["input_ids"]

    def bare_offsets(self, text: str) -> list[tuple[int, int]]:
        """Start and end in the text of each token of `bare`, in characters."""
        options = {"add_special_tokens": False, "verbose": False}
        return _load(self.folder)(text, return_offsets_mapping=True, **options)["offset_mapping"]

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
    check_complete(Path(folder))
    # Imported here because transformers takes seconds to import.
    from transformers import CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder)
        tokenizer("")  # drops the cutting and padding that its file may ask for, before threads share it
        return tokenizer
    except Exception as error:  # its readers raise whatever their parsers do
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(f"{folder}: no tokenizer that can be read ({reason}); download it again") from error


def check_complete(folder: Path) -> None:
    """Raises WeightsError where a tokenizer's folder lacks a file."""
    if not any(all((folder / name).is_file() for name in names) for names in FILES):
        missing = [name for name in FILES[-1] if not (folder / name).is_file()]
        raise WeightsError(f"{folder}: {', '.join(missing)} missing; copy the tokenizer folder of the model")
