"""Compares our networks with PyTorch's on the same random weights: `python -m launch.parity`.

One part of Stable Diffusion after the other runs in float32 on both sides. A part is off when any of its outputs
differs by more than the bound, relative to that output's standard deviation; then its blocks are compared, and the
first that is off is named. Exit status 1 when a part is off.
"""

import argparse
import functools
import re
import time
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from handjax.errors import ConfigError
from handjax.files import write_json
from handjax.weights.names import flax_path
from launch import command
from launch.peers import SIZES, Arrays, Part, flax_variables, load_torch, redraw, to_numpy

BOUND = 1e-4
# Below this standard deviation an output says little about the branches that lead to it.
FLOOR = 0.1
FLOAT32 = np.finfo(np.float32)
BLOCK = re.compile(
    r"(^|\.)(conv_in|conv_out|conv_norm_out|quant_conv|post_quant_conv|time_embedding|embeddings|mid_block"
    r"|final_layer_norm|controlnet_cond_embedding|controlnet_mid_block"
    r"|(down_blocks|up_blocks|resnets|attentions|downsamplers|upsamplers|layers|controlnet_down_blocks)\.\d+)$"
)
HEADER = f"{'part':20} {'parameters':>11} {'error':>8} {'bound':>6} {'ours':>8} {'PyTorch':>8}  status"


def main() -> int:
    """Compares the parts asked for and prints one line each."""
    parser = argparse.ArgumentParser(prog="launch.parity", description=__doc__.partition(":")[0])
    parser.add_argument("--size", choices=sorted(SIZES), default="full", help="full is Stable Diffusion's own")
    parser.add_argument("--parts", help=f"some of {','.join(SIZES['full'])}; all when left out")
    parser.add_argument("--blocks", action="store_true", help="compare block by block even where a part agrees")
    parser.add_argument("--out", type=command.output_file, help="JSON file for the figures, machine and versions")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    parts = select_parts(SIZES[arguments.size], arguments.parts)
    load_torch()
    report = command.Report("parity", arguments.json)
    if not arguments.json:
        print(HEADER, flush=True)
    items = []
    for name, part in parts.items():
        items.append({"part": name, **compare(part, arguments.blocks)})
        report.item(items[-1], describe(items[-1]))
    if arguments.out:
        document = {"size": arguments.size, "items": items, **command.environment("torch", "diffusers", "transformers")}
        write_json(arguments.out, document)
    return report.finish() or int(not all(item["ok"] for item in items))


def select_parts(parts: dict[str, Part], names: str | None) -> dict[str, Part]:
    """The parts of a comma-separated list, all for None.

    Raises:
        ConfigError: there is no such part.
    """
    wanted = list(parts) if names is None else names.split(",")
    for name in wanted:
        if name not in parts:
            raise ConfigError(f"--parts: no part {name!r}; choose of {', '.join(parts)}")
    return {name: parts[name] for name in wanted}


def compare(part: Part, blocks: bool = False) -> dict[str, Any]:
    """Runs both sides, one after the other so that one's working memory is free for the other's.

    Args:
        part: the networks.
        blocks: compare the blocks even where the outputs agree.

    Returns:
        The item of the JSON contract; with blocks, also "blocks", in the order in which they are computed.
    """
    inputs = part.draw(1)
    peer = redraw(part.make_peer()).to(peer_device())
    expected, peer_blocks = capture_peer(part, peer, inputs)
    start = time.perf_counter()
    part.run_peer(peer, inputs)
    peer_seconds = time.perf_counter() - start
    variables = jax.device_put(flax_variables(peer))
    del peer

    with jax.default_matmul_precision("float32"):
        outputs, seconds = run_ours(part, variables, inputs)
        errors = [relative_error(a, b) for a, b in zip(outputs, expected, strict=True)]
        ok = max(errors) <= BOUND
        flat = min(float(np.std(output)) for output in expected) < FLOOR
        compared = compare_blocks(part, variables, inputs, peer_blocks) if blocks or not ok else []
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(variables)),
        "max_abs": max(float(np.abs(a - b).max()) for a, b in zip(outputs, expected, strict=True)),
        "relative": max(errors),
        "bound": BOUND,
        "dtype": "float32",
        "device": jax.devices()[0].device_kind,
        "seconds": seconds,
        "peer_seconds": peer_seconds,
        "ok": ok and not flat,
        "status": "the output hardly varies" if flat else status_of(ok, compared),
        **({"blocks": compared} if compared else {}),
    }


def status_of(ok: bool, blocks: list[dict[str, Any]]) -> str:
    """One phrase: the first block that is off, or that all is well."""
    if ok:
        return "ok"
    first = next((block["block"] for block in blocks if block["relative"] > BOUND), "after the last block")
    return f"off, first at {first}"


def relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest absolute difference in units of the standard deviation of `theirs`; huge for NaN."""
    error = float(np.abs(ours - theirs).max()) / max(float(np.std(theirs)), float(FLOAT32.tiny))
    return error if error < FLOAT32.max else float(FLOAT32.max)


def peer_device() -> str:
    """Where PyTorch runs: the GPU where JAX and PyTorch both have it."""
    return "cuda" if jax.default_backend() == "gpu" and load_torch().cuda.is_available() else "cpu"


def run_ours(part: Part, variables: Any, inputs: Arrays) -> tuple[list[np.ndarray], float]:
    """Our outputs, and the seconds of a second call."""
    apply = jax.jit(functools.partial(part.make_ours().apply, method=part.method))
    outputs = [np.asarray(output) for output in jax.tree.leaves(apply(variables, *inputs))]
    start = time.perf_counter()
    jax.block_until_ready(apply(variables, *inputs))
    return outputs, time.perf_counter() - start


def compare_blocks(part: Part, variables: Any, inputs: Arrays, theirs: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """The error of every block that both sides have, in the order in which PyTorch computes them."""
    ours = capture_ours(part, variables, inputs, theirs)
    return [
        {"block": name, "relative": relative_error(ours[name], theirs[name]), "deviation": float(np.std(theirs[name]))}
        for name in theirs
        if name in ours
    ]


def capture_peer(part: Part, peer: Any, inputs: Arrays) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """PyTorch's outputs and those of its blocks, by name."""
    captured = {}

    def keep(name, output):
        captured[name] = to_numpy(first(output))

    hooks = [
        module.register_forward_hook(lambda _, inputs, output, name=name: keep(name, output))
        for name, module in peer.named_modules()
        if BLOCK.search(name)
    ]
    outputs = part.run_peer(peer, inputs)
    for hook in hooks:
        hook.remove()
    return outputs, captured


def capture_ours(part: Part, variables: Any, inputs: Arrays, names: dict[str, Any]) -> dict[str, np.ndarray]:
    """The outputs of our blocks of these names."""
    paths = {flax_path(f"{name}.bias", 1)[:-1]: name for name in names}

    def keep(module, method):
        return method == "__call__" and module.path in paths

    apply = functools.partial(part.make_ours().apply, method=part.method, capture_intermediates=keep)
    _, state = jax.jit(apply)(variables, *inputs)
    captured = traverse_util.flatten_dict(state["intermediates"])
    # Modules that share a scope share the path; the outer one ends last.
    return {paths[path[:-1]]: np.asarray(first(calls[-1])) for path, calls in captured.items()}


def first(output: Any) -> Any:
    """The array of a block that also gives others, such as those for skip connections."""
    while not hasattr(output, "ndim"):
        output = output[0]
    return output


def describe(item: dict[str, Any]) -> str:
    """One line of the table, and one a block below it."""
    figures = f"{item['relative']:8.1e} {item['bound']:6.0e} {item['seconds']:7.3f}s {item['peer_seconds']:7.3f}s"
    lines = [f"{item['part']:20} {item['parameters']:11,} {figures}  {item['status']}"]
    lines += [f"    {block['block']:36} {block['relative']:8.1e}" for block in item.get("blocks", ())]
    return "\n".join(lines)


if __name__ == "__main__":
    command.run(main)
