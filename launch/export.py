"""Writes what a run has trained, or prepared records, in the layout of other tools.

    python -m launch.export --run DIR --to diffusers|torch|lora|handjax --out DIR [--dtype float16]
    python -m launch.export --records DIR --to interhand|hic --out DIR [--split train] [--mano DIR]

`diffusers`: the model's folder (an autoencoder fills its vae/). `torch`: safetensors of an adapter and a PyTorch
module that reads them. `lora`: a low-rank adapter in the namings of diffusers and of kohya's trainer. `handjax`: what
other recipes here build on, as the tokenizer of poses. `interhand`: InterHand2.6M's pictures and annotations, as
InterWild reads them. `hic`: HIC's pictures and meshes with InterWild's HIC.json; takes --mano.
"""

import argparse
from pathlib import Path

import jax
import numpy as np

from data_pipelines.datasets.mano import load_manos
from data_pipelines.features import open_records
from data_pipelines.hic_files import write_hic
from data_pipelines.interhand_files import write_interhand
from handjax.errors import ConfigError, InputError
from handjax.tasks import make_task
from handjax.training.checkpoints import check_frozen, content_hash, restore_model_state, restore_params
from handjax.training.config import read_config
from launch import command

WEIGHTS = ("diffusers", "torch", "lora", "handjax")
RECORDS = ("interhand", "hic")


def main() -> None:
    """Exports the newest checkpoint of a run, the moving average where there is one, or the records of a split."""
    parser = argparse.ArgumentParser(prog="launch.export", description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path, metavar="DIR", help="--workdir of a launch.train run")
    source.add_argument("--records", type=Path, metavar="DIR", help="what launch.precompute made")
    parser.add_argument("--to", choices=[*WEIGHTS, *RECORDS], required=True, help="layout to write")
    parser.add_argument("--out", type=command.output_folder, required=True, metavar="DIR", help="made when missing")
    parser.add_argument("--dtype", choices=["float32", "float16"], default="float32", help="of the weights")
    parser.add_argument("--split", choices=["train", "val", "eval"], default="train", help="of the records")
    parser.add_argument("--mano", type=Path, metavar="DIR", help="your MANO files: records then have MANO's parameters")
    arguments = parser.parse_args()
    possible = WEIGHTS if arguments.run else RECORDS
    if arguments.to not in possible:
        raise ConfigError(f"--to {arguments.to} is not for these; use {' or '.join(possible)}")
    (export_run if arguments.run else export_records)(arguments)


def export_run(arguments: argparse.Namespace) -> None:
    """Writes what a run has trained.

    Raises:
        CheckpointError: what it was trained on has changed.
        ConfigError: its task has no such layout.
    """
    config = read_config(arguments.run)
    task = make_task(config)
    if arguments.to not in task.exports:
        raise ConfigError(f"{arguments.run}: task {config.task!r} exports to {', '.join(task.exports)} only")
    check_frozen(arguments.run, content_hash(task.frozen()))
    params_shapes, state_shapes = jax.eval_shape(task.init, jax.random.key(0))
    step, params = restore_params(arguments.run, params_shapes)
    state = restore_model_state(arguments.run, state_shapes)
    task.exports[arguments.to](params, state, arguments.out, np.dtype(arguments.dtype))
    print(f"{arguments.out}: step {step} of {arguments.run}")


def export_records(arguments: argparse.Namespace) -> None:
    """Writes records as a published data set's files.

    Raises:
        ConfigError: HIC's files without MANO.
        InputError: there are none, or none that has what the files tell.
        WeightsError: a MANO file is missing or damaged.
    """
    records = open_records(arguments.records, arguments.split)
    if records is None:
        raise InputError(f"{arguments.records}: has no split {arguments.split!r}; name another with --split")
    mano = load_manos(arguments.mano) if arguments.mano else None
    if arguments.to == "interhand":
        part = "test" if arguments.split == "eval" else arguments.split
        written = write_interhand(records, arguments.out, part, mano)
    elif mano is None:
        raise ConfigError("--to hic writes meshes of MANO; give --mano, the folder of your MANO files")
    else:
        written = write_hic(records, arguments.out, mano)
    missed = "".join(f", {count} left out: {reason}" for reason, count in written.left_out.items())
    made = f"{written.records} records of {arguments.records} ({arguments.split}) in {written.pictures} pictures"
    print(f"{arguments.out}: {made}{missed}")


if __name__ == "__main__":
    command.run(main)
