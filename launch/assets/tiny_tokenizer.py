"""Writes the tokenizer of the tiny diffusion model: CLIP's, with only the merges that captions about hands need.

    python -m launch.assets.tiny_tokenizer --bpe bpe_simple_vocab_16e6.txt.gz

The file is CLIP's list of merges (MIT), `open_clip/bpe_simple_vocab_16e6.txt.gz` in the wheel of open_clip_torch 3.3.0.
"""

import argparse
import gzip
import json
from collections.abc import Iterable
from pathlib import Path

import handjax
from handjax.errors import InputError
from handjax.files import atomic_write
from launch import command

DEFAULT_FOLDER = Path(handjax.__file__).parent / "assets" / "tiny_inpainting" / "tokenizer"
WORD_LIST = Path(__file__).parent / "caption_words.txt"
CLIP_MERGES = 49152 - 256 - 2
FREQUENT_MERGES = 400
"""The first merges are kept for their own sake: they make fewer pieces of words that are not in the list."""
MAX_LENGTH = 32
START, END, END_OF_WORD = "<|startoftext|>", "<|endoftext|>", "</w>"
LICENSE = Path(__file__).parent / "clip_license.txt"

Merge = tuple[str, str]


def byte_symbols() -> list[str]:
    """Returns the printable character that stands for each byte, in CLIP's order of ids.

    Source: GPT-2's byte-level BPE: printable Latin-1 stands for itself, the others follow from U+0100.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in printable] + [chr(0x100 + i) for i in range(256 - len(printable))]


def read_merges(path: Path) -> list[Merge]:
    """Reads CLIP's merges in order of rank."""
    try:
        lines = gzip.decompress(path.read_bytes()).decode().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not CLIP's bpe_simple_vocab_16e6.txt.gz ({error})") from error
    return [(first, second) for first, second in map(str.split, lines[1 : CLIP_MERGES + 1])]


def merges_of(word: str, ranks: dict[Merge, int]) -> set[Merge]:
    """Returns the merges that encoding `word` applies.

    With these (and any others of the full list) the word is cut into the same pieces: at each step the merge of lowest
    rank among all is among those kept.
    """
    pieces = [*word[:-1], word[-1] + END_OF_WORD]
    used = set()
    while pairs := [pair for pair in zip(pieces, pieces[1:], strict=False) if pair in ranks]:
        best = min(pairs, key=ranks.__getitem__)
        used.add(best)
        pieces = _join(best, pieces)
    return used


def _join(pair: Merge, pieces: list[str]) -> list[str]:
    joined: list[str] = []
    for piece in pieces:
        if joined and (joined[-1], piece) == pair:
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def trim(merges: list[Merge], words: Iterable[str]) -> list[Merge]:
    """Returns the frequent merges and those that `words` use, in order of rank."""
    ranks = {merge: rank for rank, merge in enumerate(merges)}
    kept = set(merges[:FREQUENT_MERGES]).union(*(merges_of(word, ranks) for word in words))
    return sorted(kept, key=ranks.__getitem__)


def read_words(path: Path = WORD_LIST) -> list[str]:
    """Reads the word list; hyphens separate words, as for CLIP, and `#` starts a comment line."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return sorted(set(" ".join(lines).replace("-", " ").split()))


def write_tokenizer(folder: Path, merges: list[Merge]) -> int:
    """Writes the files that `transformers.CLIPTokenizer` loads; returns the size of the vocabulary."""
    symbols = byte_symbols()
    tokens = [*symbols, *(s + END_OF_WORD for s in symbols), *map("".join, merges), START, END]
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    config = {**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": MAX_LENGTH, "do_lower_case": True}
    files = {
        "vocab.json": json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *map(" ".join, merges), ""]),
        "tokenizer_config.json": json.dumps(config, indent=2) + "\n",
        "special_tokens_map.json": json.dumps(special, indent=2) + "\n",
        "LICENSE": LICENSE.read_text(),
    }
    with atomic_write(folder) as temporary:
        temporary.mkdir()
        for name, text in files.items():
            (temporary / name).write_text(text, encoding="utf-8")
    return len(tokens)


def main() -> None:
    """Writes the tokenizer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bpe", type=Path, required=True, help="bpe_simple_vocab_16e6.txt.gz of open_clip_torch")
    parser.add_argument("--out", type=Path, default=DEFAULT_FOLDER)
    arguments = parser.parse_args()
    size = write_tokenizer(arguments.out, trim(read_merges(arguments.bpe), read_words()))
    print(f"{arguments.out}: {size} tokens")


if __name__ == "__main__":
    command.run(main)
