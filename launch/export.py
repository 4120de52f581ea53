"""Writes what a run has trained in the layout of other tools.

    python -m launch.export --run DIR --to diffusers|torch|lora|handjax --out DIR [--dtype float16]

`diffusers`: the model's folder (an autoencoder fills its vae/). `torch`: safetensors of an adapter and a PyTorch
module that reads them. `lora`: a low-rank adapter in the namings of diffusers and of kohya's trainer. `handjax`: what
other recipes here build on, as the tokenizer of poses.
"""

import argparse
from pathlib import Path

import jax
import numpy as np

from handjax.errors import ConfigError
from handjax.tasks import make_task
from handjax.training.checkpoints import restore_model_state, restore_params
from handjax.training.config import read_config
from launch import command


def main() -> None:
    """Exports the newest checkpoint of a run, the moving average where there is one."""
    parser = argparse.ArgumentParser(prog="launch.export", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="--workdir of a launch.train run")
    parser.add_argument(
        "--to", choices=["diffusers", "torch", "lora", "handjax"], required=True, help="layout to write"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="made when missing")
    parser.add_argument("--dtype", choices=["float32", "float16"], default="float32", help="of the weights")
    arguments = parser.parse_args()

    config = read_config(arguments.run)
    task = make_task(config)
    if arguments.to not in task.exports:
        raise ConfigError(f"{arguments.run}: task {config.task!r} exports to {', '.join(task.exports)} only")
    params_shapes, state_shapes = jax.eval_shape(task.init, jax.random.key(0))
    step, params = restore_params(arguments.run, params_shapes)
    state = restore_model_state(arguments.run, state_shapes)
    task.exports[arguments.to](params, state, arguments.out, np.dtype(arguments.dtype))
    print(f"{arguments.out}: step {step} of {arguments.run}")


if __name__ == "__main__":
    command.run(main)
