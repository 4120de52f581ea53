"""Compiles a recipe's train step ahead of time: `python -m launch.compile --config sgm.py --topology v5e:4x4`.

Needs neither weights nor data, and for a TPU topology no TPU but the extra `tpu`. Without --topology it compiles for
the devices of this machine. docs/scaling.md says what the figures mean.
"""

import argparse
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict, FrozenConfigDict

from handjax.diffusion.shapes import SHAPES_ONLY
from handjax.errors import ConfigError, UserError
from handjax.tasks import make_task
from handjax.training import ahead
from handjax.training.collectives import read_collectives
from handjax.training.config import OVERRIDE_PREFIX, apply_overrides, flatten, load_config
from handjax.training.program import Tensor, argument_elements, hbm_traffic, largest_tensors
from handjax.training.roofline import GIB, TERA, chip_of, roofline
from launch import command, compile_text
from launch.flops import count_flops
from launch.topologies import devices_of

# Batches a device that a sweep without fields tries, smallest first.
SWEEP_BATCHES = (1, 2, 4, 8, 16, 32)
LARGEST_SHOWN = 5


def main() -> int:
    """Compiles one recipe, or each of a sweep."""
    parser = argparse.ArgumentParser(prog="launch.compile", description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", required=True, metavar="FILE[:VARIANT]", help="a recipe, as in configs/")
    parser.add_argument("--topology", metavar="NAME", help="a TPU slice, as v5e:4x4; default: this machine's devices")
    parser.add_argument(
        "--sweep",
        nargs="*",
        metavar="FIELD=A,B",
        help="compiles every combination of these fields' values, or of batch sizes, shardings and rematerialisations "
        "when none is given, and says which is best",
    )
    parser.add_argument("--save", type=Path, metavar="FILE", help="writes the compiled step")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    arguments, overrides = parser.parse_known_args()
    if arguments.sweep is not None and arguments.save:
        raise ConfigError("--save is for one compiled step; leave it out, or leave out --sweep")
    config = load_config(arguments.config, overrides)
    devices = devices_of(arguments.topology)
    report = command.Report("compile", arguments.json)
    start = {"config": arguments.config, "topology": arguments.topology or "local"}
    versions = command.environment(*(["libtpu"] if arguments.topology else []))
    if arguments.sweep is None:
        item = compile_and_measure(config, devices, arguments.save)
        report.item(start | item, compile_text.item(start | item))
        return report.finish(**versions)
    if chip_of(devices[0].device_kind) is None:
        raise ConfigError(f"--sweep: no published figures of {devices[0].device_kind} to choose by; give --topology")
    items = []
    for item in sweep(config, choices(arguments.sweep, len(devices)), devices, report):
        items.append(start | item)
        report.item(items[-1], compile_text.item(items[-1]))
    best = best_of(items)
    if not arguments.json:
        print(compile_text.best(best))
    return report.finish(best=best, **versions)


def choices(words: Sequence[str], devices: int) -> list[list[str]]:
    """Returns the overrides of every combination of a sweep; batch sizes grow last.

    Args:
        words: "parallel.remat=none,blocks"; none for the usual ones.
        devices: number of devices.

    Raises:
        ConfigError: a word of another form.
    """
    fields = dict(_values(word) for word in words) if words else _usual_fields(devices)
    fields["batch_size"] = sorted(fields.pop("batch_size", []), key=int)
    named = [[f"{OVERRIDE_PREFIX}{name}={value}" for value in values] for name, values in fields.items() if values]
    return [list(words) for words in itertools.product(*named)]


def _values(word: str) -> tuple[str, list[str]]:
    name, equals, text = word.partition("=")
    if not equals or not text:
        raise ConfigError(f"--sweep {word}: give a field and its values, as parallel.remat=none,blocks")
    return name, text.split(",")


def _usual_fields(devices: int) -> dict[str, list[str]]:
    return {
        "parallel.fsdp": sorted({"1", str(devices)}),
        "parallel.remat": ["none", "blocks"],
        "batch_size": [str(devices * batch) for batch in SWEEP_BATCHES],
    }


def sweep(
    config: FrozenConfigDict, choices: list[list[str]], devices: Sequence[jax.Device], report: command.Report
) -> Iterator[dict[str, Any]]:
    """Yields an item a choice; when a batch does not fit, larger ones of the same choice are left out."""
    full: list[list[str]] = []
    for words in choices:
        others = [word for word in words if not word.startswith(f"{OVERRIDE_PREFIX}batch_size=")]
        if others in full:
            continue
        changed = ConfigDict(config.to_dict())  # sections of a frozen one would be shared
        try:
            apply_overrides(changed, words)
            item = compile_and_measure(FrozenConfigDict(changed), devices)
        except UserError as error:
            report.error(" ".join(words), error)
            continue
        if not item["fits"]:
            full.append(others)
        yield item


def best_of(items: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The item of most examples a second among those that fit."""
    fitting = [item for item in items if item["fits"]]
    return max(fitting, key=lambda item: item["examples_per_s_bound"], default=None)


def compile_and_measure(
    config: FrozenConfigDict, devices: Sequence[jax.Device], save: Path | None = None
) -> dict[str, Any]:
    """Compiles the step of a recipe for the devices; returns its figures as an item of the JSON contract."""
    task = make_task(without_weights(config))
    start = time.perf_counter()
    lowered = ahead.lower_step(config, task, devices)
    lowered_at = time.perf_counter()
    compiled = ahead.compile_step(lowered)
    seconds = time.perf_counter() - lowered_at
    if save is not None and not isinstance(compiled, ahead.TooLarge):
        ahead.save_step(compiled, save)
    model_flops = count_flops(config, task)
    executed_flops = count_flops(config, task, recomputed=True) if ahead.recomputes(config) else model_flops
    item = {
        "chips": len(devices),
        "device_kind": devices[0].device_kind,
        "batch_size": config.batch_size,
        "settings": {name: value for name, value in flatten(config).items() if _is_choice(name)},
        "tflop_per_chip": model_flops / len(devices) / TERA,
        "tflop_executed_per_chip": executed_flops / len(devices) / TERA,
        "lower_seconds": round(lowered_at - start, 1),
        "compile_seconds": round(seconds, 1),
    }
    if isinstance(compiled, ahead.TooLarge):
        return item | _too_large(compiled)
    return item | _fitting(compiled, item)


def _is_choice(name: str) -> bool:
    """Whether a field decides how the step is computed but not what."""
    return name.startswith("parallel.") or name in ("accumulation", "dtype", "frozen_dtype", "data.encoded")


def without_weights(config: FrozenConfigDict) -> FrozenConfigDict:
    """The recipe with shapes in place of its model's weights; its other weights are small and come with handjax."""
    if "model" not in config:
        return config
    changed = ConfigDict(config)
    changed.model = SHAPES_ONLY + config.model
    return FrozenConfigDict(changed)


def _too_large(reason: ahead.TooLarge) -> dict[str, Any]:
    return {
        "hbm_peak_gib": reason.needed / GIB,
        "hbm_limit_gib": reason.available / GIB,
        "fits": False,
        "largest": _in_gib(reason.largest[:LARGEST_SHOWN]),
    }


def _in_gib(tensors: list[Tensor]) -> list[dict[str, Any]]:
    return [{"gib": tensor.bytes / GIB, "shape": tensor.shape, "operator": tensor.operator} for tensor in tensors]


def _fitting(compiled: jax.stages.Compiled, item: dict[str, Any]) -> dict[str, Any]:
    memory, program = ahead.memory_of(compiled), compiled.as_text() or ""
    traffic = read_collectives(program)
    sent = math.fsum(kind.bytes for kind in traffic.values())
    costs: Any = compiled.cost_analysis()
    moved = hbm_traffic(program)
    figures = {
        "hbm_arguments_gib": memory.arguments / GIB,
        "hbm_temporaries_gib": memory.temporaries / GIB,
        "hbm_peak_gib": memory.peak / GIB,
        "argument_elements": argument_elements(program),
        "hbm_traffic_gib": moved / GIB,
        "accessed_gib": costs["bytes accessed"] / GIB,
        "tflop_compiled_per_chip": costs["flops"] / TERA,
        "collective_gib": {kind: found.bytes / GIB for kind, found in traffic.items()},
        "collective_count": {kind: found.count for kind, found in traffic.items()},
    }
    chip = chip_of(item["device_kind"])
    if chip is None:
        return figures | {"hbm_limit_gib": None, "fits": None, "roofline_step_ms": None, "mfu_bound": None}
    # The compiler's count lacks kernels and repeated bodies of loops; an even share, what chips do twice.
    flops = max(item["tflop_executed_per_chip"] * TERA, costs["flops"])
    bound = roofline(chip, flops, float(moved), sent)
    if memory.peak > chip.hbm:
        figures["largest"] = _in_gib(largest_tensors(program, LARGEST_SHOWN))
    return figures | {
        "hbm_limit_gib": chip.hbm / GIB,
        "fits": memory.peak <= chip.hbm,
        "compute_ms": 1e3 * bound.compute,
        "memory_ms": 1e3 * bound.memory,
        "network_ms": 1e3 * bound.network,
        "roofline_step_ms": 1e3 * bound.seconds,
        "limit": bound.limit,
        "mfu_bound": item["tflop_per_chip"] * TERA / chip.flops / bound.seconds,
        "mfu_without_overlap": item["tflop_per_chip"] * TERA / chip.flops / bound.seconds_in_turn,
        "examples_per_s_bound": item["batch_size"] / bound.seconds,
        "figures_of_chip": chip.source,
    }


if __name__ == "__main__":
    command.run(main)
