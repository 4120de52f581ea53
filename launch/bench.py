"""Times ours, beside a peer on the same input where there is one: `python -m launch.bench NAME`."""

import argparse
import importlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from handjax.errors import ConfigError, InputError
from handjax.files import write_json
from launch import command
from launch.timing import seconds


def main() -> int:
    """Runs one benchmark and prints seconds, and ours ÷ peer: below 1 is faster."""
    parser = argparse.ArgumentParser(prog="launch.bench", description=__doc__)
    parser.add_argument("name", choices=sorted(BENCHMARKS), help="what is timed")
    parser.add_argument("--runs", type=int, default=5, help="of each, in turn")
    peers = "a Python with the peer: pyrender of hands and rasterize, torch-fidelity and clean-fid of metrics"
    parser.add_argument("--peer-python", type=Path, help=peers)
    for name, what in FOLDERS.items():
        parser.add_argument(f"--{name}", type=Path, metavar="DIR", help=what)
    samples = "pictures each way, of guidance_prompts from each set; or crops of each kind"
    parser.add_argument("--samples", type=int, help=samples)
    written = "JSON file for the figures, machine and versions; FILE.partial until all are there"
    parser.add_argument("--out", type=command.output_file, help=written)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    options = read_options(arguments)
    report = command.Report("bench", arguments.json)
    module, function, peer_packages = BENCHMARKS[arguments.name]
    benchmark = getattr(importlib.import_module(module), function)
    items = []
    for item in benchmark(arguments.runs, **options):
        items.append(item)
        report.item(item, describe(item))
        if arguments.out:
            # some benchmarks take hours: what an interrupted one has found is not lost
            partial = arguments.out.with_name(f"{arguments.out.name}.partial")
            write_json(partial, {"items": items, **command.environment(*peer_packages)})
    if arguments.out:
        partial.replace(arguments.out)
    return report.finish()


def read_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a benchmark takes besides the number of runs.

    Raises:
      ConfigError: a number is out of its range, or an option is for another benchmark.
      InputError: a folder of pictures is not there.
    """
    for name, least in (("runs", 1), ("samples", 2)):
        given = getattr(arguments, name)
        if given is not None and given < least:
            raise ConfigError(f"--{name} is {given}; it must be at least {least}")
    options = {name: getattr(arguments, name) for name in OPTION_OF if getattr(arguments, name) is not None}
    for name in options:
        if arguments.name not in OPTION_OF[name]:
            raise ConfigError(
                f"--{name.replace('_', '-')} is for {' and '.join(OPTION_OF[name])}, not for {arguments.name}"
            )
    for name in ("photos", "malformed"):
        if name in options and not options[name].is_dir():
            raise InputError(f"--{name} {options[name]}: no such folder; name one of pictures")
    return options


def describe(item: dict[str, Any]) -> str:
    """One line of figures."""
    value = "unknown" if item["ours"] is None else f"{item['ours']:.4g} {item['unit']}"
    line = f"{item['name']}: {value}"
    if "peer" in item:
        line += f", {item['peer_name']} {item['peer']:.4g} {item['unit']}, ratio {item['ratio']:.3g}"
    if "paper" in item:
        line += f", the paper's {item['paper']:.4g} {item['unit']}"
    if "kappa" in item:
        line += f", kappa {item['kappa']:.3f}"
    if "of" in item:
        line += f" ({item['part']} of {item['of']})"
    if "wanted" in item:
        line += f", wanted {item['wanted']:g}"
    if "ratio_bound" in item:
        line += f", at most {item['ratio_bound']:g}"
    if "bound" in item:
        line += f", at most {item['bound']:g} {item['unit']}"
    if "peak_gib" in item:
        line += f"; peak memory {item['peak_gib']:.2f} and {item['peer_peak_gib']:.2f} GiB"
    if "examples_per_s" in item:
        line += f"; {item['examples_per_s']:.4g} examples/s, {item['examples_per_cpu_s']:.4g} a CPU second"
    if "peer_tflop" in item:
        line += f"; {item['tflop']:.3g} and {item['peer_tflop']:.3g} TFLOP"
    if "per_second" in item:
        line += f"; {item['per_second']:.4g} {item['what']}/s"
    if "memory_mib" in item:
        line += f"; {item['memory_mib']:.1f} MiB a mesh"
    return line if item.get("mfu") is None else f"{line}; MFU {item['mfu']:.1%}"


def bench_first_image(runs: int) -> Iterator[dict[str, Any]]:
    """From the start of `launch.generate` with the tiny model to its first picture, programs in the compile cache."""
    with tempfile.TemporaryDirectory() as out:
        run = [sys.executable, "-m", "launch.generate", "a photo of a left hand", "--out", out]

        def generate() -> None:
            subprocess.run(run, check=True, capture_output=True)

        generate()
        times = [seconds(generate) for _ in range(runs)]
    yield {"name": "first_image", "ours": statistics.median(times), "bound": 20.0, "unit": "s", "runs": runs}


FOLDERS = {
    "data": (
        "of anatomy: the test sets, made there where they are missing; of discriminator and mghand_cross: of "
        "launch.assets.mghand; of recovery: prepared records with meshes; of sesahand_alpha: prepared records"
    ),
    "controlnet": "of sesahand_alpha: an exported ControlNet of SesaHand",
    "photos": "of anatomy, guidance and witnesses: photographs of normal hands",
    "malformed": "of anatomy: pictures of malformed hands",
}

OPTION_OF = {
    "peer_python": ("hands", "metrics", "rasterize"),
    "samples": (
        "discriminator",
        "guidance",
        "guidance_prompts",
        "mghand",
        "mghand_cross",
        "mghand_sweeps",
        "sesahand_alpha",
        "witnesses",
    ),
    "data": ("anatomy", "discriminator", "mghand_cross", "recovery", "sesahand_alpha"),
    "controlnet": ("sesahand_alpha",),
    "photos": ("anatomy", "guidance", "witnesses"),
    "malformed": ("anatomy",),
}
"""The benchmarks that an option is for."""

# Module and function, and the packages whose versions are kept with the figures. A module is imported when it runs:
# memory is weighed in processes that begin with this file.
BENCHMARKS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "anatomy": ("launch.bench_anatomy", "bench_anatomy", ("array-record", "pillow")),
    "discriminator": ("launch.bench_discriminator", "bench_discriminator", ("efficientnet-lite-pytorch",)),
    "effnet": ("launch.bench_effnet", "bench_effnet", ("torch", "efficientnet-lite-pytorch")),
    "first_image": ("launch.bench", "bench_first_image", ()),
    "guidance": ("launch.bench_guidance", "bench_guidance", ("mediapipe", "efficientnet-lite-pytorch")),
    "guidance_memory": ("launch.bench_guidance_memory", "bench_guidance_memory", ()),
    "guidance_prompts": ("launch.bench_guidance", "bench_guidance_prompts", ("mediapipe",)),
    "hands": ("launch.bench_hands", "bench_hands", ("mediapipe", "trimesh", "apache-beam", "array-record", "pillow")),
    "loader": ("launch.bench_loader", "bench_loader", ("array-record", "pillow", "tensorflow-datasets")),
    "metrics": ("launch.bench_metrics", "bench_metrics", ("pillow",)),
    "mghand": ("launch.bench_mghand", "bench_mghand", ("mediapipe", "efficientnet-lite-pytorch")),
    "mghand_cost": ("launch.bench_mghand_cost", "bench_mghand_cost", ()),
    "mghand_cross": ("launch.bench_mghand_cross", "bench_mghand_cross", ("mediapipe", "efficientnet-lite-pytorch")),
    "mghand_sweeps": ("launch.bench_mghand", "bench_mghand_sweeps", ("mediapipe", "efficientnet-lite-pytorch")),
    "rasterize": ("launch.bench_rasterize", "bench_rasterize", ("trimesh",)),
    "recovery": ("launch.bench_recovery", "bench_recovery", ("torch", "array-record")),
    "sd": ("launch.bench_sd", "bench_sd", ("torch", "diffusers", "transformers")),
    "sesahand": ("launch.bench_sesahand", "bench_sesahand", ()),
    "sesahand_alpha": ("launch.bench_sesahand_alpha", "bench_sesahand_alpha", ("mediapipe",)),
    "training": ("launch.bench_training", "bench_training", ("orbax-checkpoint", "array-record")),
    "witnesses": ("launch.bench_witnesses", "bench_witnesses", ("pillow",)),
}


if __name__ == "__main__":
    command.run(main)
