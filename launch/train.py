"""Trains a recipe: `python -m launch.train --config RECIPE.py[:variant] [--workdir DIR] [--config.optim.lr=1e-5 …]`."""

import argparse
import functools
import logging
import sys
from pathlib import Path

import jax
from ml_collections import ConfigDict, FrozenConfigDict

from data_pipelines.encoded import encoder_of
from handjax.diffusion.model import StableDiffusion
from handjax.errors import ConfigError, InputError
from handjax.tasks import make_task, resolve
from handjax.training.checkpoints import content_hash
from handjax.training.config import config_name, load_config
from handjax.training.loop import train
from handjax.training.preemption import Preempted
from handjax.training.task import Task
from launch import command
from launch.command import PREEMPTED_STATUS
from launch.distributed import add_process_arguments, is_one_of_several, is_supervised, join, supervise
from launch.flops import count_flops


def main() -> int | None:
    """Trains up to `config.steps`, resuming whatever `--workdir` already holds.

    Returns:
      `PREEMPTED_STATUS` when the run was asked to end, `LOST_STATUS` when it lost one of its processes; either time
      the same command goes on, as launch/cluster does.
    """
    parser = argparse.ArgumentParser(prog="launch.train", description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", required=True, metavar="FILE[:VARIANT]", help="a recipe, as in configs/")
    parser.add_argument("--workdir", type=Path, metavar="DIR", help="default: runs/<recipe>")
    add_process_arguments(parser)
    arguments, overrides = parser.parse_known_args()
    if is_one_of_several(arguments):
        if not is_supervised():
            return supervise("launch.train")
        join(arguments)
    config = load_config(arguments.config, overrides)
    _log_to_stderr()
    task = make_task(config)
    if config.data.encoded:
        _check_encoder(task, config.data.path)
    make_loader = functools.partial(
        resolve(config.data.loader),
        data_section(config, task),
        batch_spec=task.batch_spec(),
        batch_size=config.batch_size,
        seed=config.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    workdir = arguments.workdir or Path("runs") / config_name(arguments.config)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{workdir}: cannot be a folder ({error.strerror}); use another --workdir") from error
    try:
        train(config, task, lambda split: make_loader(split=split), workdir, lambda: count_flops(config, task))
    except Preempted as ending:
        print(ending, file=sys.stderr)
        return PREEMPTED_STATUS
    return None


def data_section(config: FrozenConfigDict, task: Task) -> ConfigDict:
    """The recipe's `data`, in which captions are tokenised as the task's model wants them."""
    data, model = ConfigDict(config.data), task.frozen()
    words = model.tokenizer if isinstance(model, StableDiffusion) else getattr(task, "caption_tokenizer", None)
    if words:
        data.tokenizer, data.max_length = words.folder, words.length
    return data


def _check_encoder(task: Task, path: str) -> None:
    """Latents of another autoencoder look like data and teach nothing."""
    model = task.frozen()
    if not isinstance(model, StableDiffusion):
        raise ConfigError("data.encoded=True: this recipe trains on pictures; leave it out")
    made_by, wanted = encoder_of(path), content_hash(model.vae_params)
    if made_by != wanted:
        raise ConfigError(
            f"data.path={path}: not encoded by the autoencoder of this recipe ({made_by or 'none'}, not {wanted}); "
            "run launch.encode with the same recipe"
        )


def _log_to_stderr() -> None:
    logger = logging.getLogger("handjax")
    logger.propagate = False  # Orbax gives the root logger a handler of its own
    # what goes wrong is raised here; each of Orbax's threads and TensorStore's futures would say it again, and long
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logger.setLevel(logging.INFO if jax.process_index() == 0 else logging.WARNING)
    logger.addHandler(logging.StreamHandler(sys.stderr))


if __name__ == "__main__":
    command.run(main)
