"""Encodes a recipe's training examples ahead of time, so that steps need no autoencoder.

python -m launch.encode --config sgm.py --config.data.path=RECORDS --examples 50000 --output LATENTS
python -m launch.train  --config sgm.py --config.data.path=LATENTS --config.data.encoded=True
"""

import argparse
import contextlib
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from handjax.diffusion.inpainting import encode_pair
from handjax.diffusion.model import StableDiffusion
from handjax.errors import ConfigError, InputError
from handjax.files import atomic_write
from handjax.tasks import make_task, resolve
from handjax.tasks.pictures import hand_spec, picture_spec
from handjax.training.checkpoints import content_hash
from handjax.training.config import default_config, load_config
from handjax.training.parallel import make_engine
from handjax.training.task import Task
from launch import command
from launch.train import data_section

BATCH = 16


def main() -> int:
    """Writes the encoded examples and prints how many there are."""
    arguments, overrides = _parse_arguments()
    config = load_config(arguments.config, [*overrides, "--config.data.encoded=False"])
    if min(arguments.examples, arguments.eval_examples) < 1:
        raise ConfigError("--examples and --eval-examples must be at least 1")
    if arguments.output.exists():
        raise InputError(f"--output {arguments.output}: exists; choose another folder or remove it")
    task = make_task(config)
    model = task.frozen()
    if not isinstance(model, StableDiffusion):
        raise ConfigError(f"{arguments.config}: its task has no frozen autoencoder; give an inpainting recipe")
    report = command.Report("encode", arguments.json)
    counts = {"train": arguments.examples, "eval": arguments.eval_examples}
    with atomic_write(arguments.output) as temporary:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS tells of the temporary folder
            builder = _builder(data_section(config, task), config.seed, task, counts, temporary)
            builder.download_and_prepare()
        shutil.rmtree(temporary / "downloads", ignore_errors=True)
    made = ", ".join(f"{count} {split} examples" for split, count in counts.items())
    report.item({"output": str(arguments.output), "examples": counts}, f"{arguments.output}  {made}")
    return report.finish()


def _builder(data: Any, seed: int, task: Task, counts: dict[str, int], folder: Path) -> Any:
    import tensorflow_datasets as tfds
    from absl import logging

    from data_pipelines.encoded import EncodedConfig, EncodedExamples

    tfds.disable_progress_bar()
    logging.set_verbosity(logging.ERROR)
    model = task.frozen()
    pixels, latents = (picture_spec(model, data.image_size, encoded) for encoded in (False, True))
    others = hand_spec(model, data.image_size) | task.batch_spec()
    fields = {name: spec for name, spec in others.items() if name not in pixels and name != "skeleton"}
    make_loader = resolve(data.loader)

    def batches(split: str) -> Iterator[dict[str, Any]]:
        return encoded_batches(model, make_loader(data, pixels | fields, BATCH, seed, split))

    encoded = EncodedConfig(
        spec=latents | fields,
        counts=counts,
        encoder=content_hash(model.vae_params),
        batches=batches,
    )
    return EncodedExamples(config=encoded, data_dir=str(folder), file_format="array_record")


def encoded_batches(model: StableDiffusion, batches: Any) -> Iterator[dict[str, Any]]:
    """Puts latents in the place of each batch's pictures.

    Args:
      model: encodes, on all devices.
      batches: with image [b, s, s, 3] and mask [b, s, s, 1], besides what is passed on.

    Yields:
      The batches with latents [b, h, w, c] and hidden_latents [b, h, w, c].
    """
    engine = make_engine(default_config().parallel, BATCH, 1)
    model = engine.place_frozen(model)
    encode = jax.jit(encode_pair)
    for batch in batches:
        placed = engine.place_batch({name: batch[name] for name in ("image", "mask")})
        latents, hidden = encode(model, placed["image"], placed["mask"])
        rest = {name: value for name, value in batch.items() if name != "image"}
        yield rest | {"latents": latents, "hidden_latents": hidden}


def _parse_arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(prog="launch.encode", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument(
        "--config", required=True, metavar="FILE[:VARIANT]", help="an inpainting recipe, as in configs/"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="new folder to write")
    parser.add_argument("--examples", type=int, required=True, metavar="N", help="of training; several for each record")
    parser.add_argument("--eval-examples", type=int, default=256, metavar="N", help="held out")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_known_args()


if __name__ == "__main__":
    command.run(main)
