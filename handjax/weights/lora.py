"""LoRA files in safetensors, in the names of diffusers and PEFT and in those of kohya's trainer.

Reference: Hu et al. 2022, LoRA: Low-Rank Adaptation of Large Language Models, equation 3.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from handjax.errors import WeightsError
from handjax.weights.names import TEXT_PREFIX
from handjax.weights.safetensors import read_metadata, read_tensors, write_tensors

KOHYA_PREFIXES = {"unet": "lora_unet_", "text_encoder": "lora_te_"}
# How a key ends, after the module's name, and which factor it holds.
ENDINGS = {
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".alpha": "alpha",
}
# The first releases of diffusers named the factors after attention processors, in the text encoder too.
OLD_TEXT_MODULES = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
# JSON text in a file's metadata, the settings of PEFT's LoraConfig under "unet." and "text_encoder.".
PEFT_METADATA = "lora_adapter_metadata"


class LoRAFactors(NamedTuple):
    """Factors of the update that is added to one module's weight: (alpha / rank) · up · down.

    Args:
        down: [rank, in], or [rank, in, height, width] of a convolution, PyTorch's layout.
        up: [out, rank], or [out, rank, 1, 1] of a convolution.
        alpha: numerator of the scale; the rank where a file names none.
    """

    down: np.ndarray
    up: np.ndarray
    alpha: float


def read_lora(path: str | os.PathLike, modules: Mapping[str, Iterable[str]]) -> dict[str, dict[str, LoRAFactors]]:
    """Reads the factors of a LoRA file for Stable Diffusion 1.x or 2.x.

    Args:
        path: a .safetensors file.
        modules: names of the model's modules with a weight, as PyTorch has them ("mid_block.attentions.0.proj_in"),
            under "unet" and "text_encoder": `handjax.weights.names.module_names` of their parameters.

    Returns:
        For each part in the file, module name to factors in the file's precision.

    Raises:
        WeightsError: the file is damaged, has keys of another method or model, or a factor is missing or misshapen.
    """
    # By their own names and by kohya's, where underscores stand for dots.
    known = {
        part: {n: name for name in names for n in (name, name.replace(".", "_"))} for part, names in modules.items()
    }
    factors: dict[tuple[str, str], dict[str, Any]] = {}
    strangers = []
    for key, value in read_tensors(path):
        place = _place(key, known)
        if place is None:
            strangers.append(key)
        else:
            part, module, factor = place
            factors.setdefault((part, module), {})[factor] = value
    if strangers:
        raise WeightsError(
            f"{path}: {len(strangers)} keys fit no module of this model, first {min(strangers)}; use a LoRA (not "
            "LoHa, LoKr or DoRA) of a model of the same kind"
        )
    settings = _peft_settings(path)
    lora: dict[str, dict[str, LoRAFactors]] = {}
    for (part, module), found in factors.items():
        lora.setdefault(part, {})[module] = _factors(f"{path}: {part} {module}", found, settings.get(part, {}), module)
    return lora


def write_lora(
    path: str | os.PathLike,
    factors: Mapping[str, Mapping[str, LoRAFactors]],
    naming: Literal["peft", "kohya"] = "peft",
) -> None:
    """Writes factors, as `read_lora` returns them, so that diffusers' pipelines load them. Atomic.

    Args:
        path: the .safetensors file.
        factors: part to module name to factors.
        naming: "peft" keeps module names and states alpha in the metadata, which diffusers reads since 0.35; "kohya"
            is what most other programs read.
    """
    tensors: dict[str, np.ndarray] = {}
    for part, modules in factors.items():
        for module, (down, up, alpha) in modules.items():
            name = TEXT_PREFIX + module if part == "text_encoder" else module
            if naming == "peft":
                tensors |= {f"{part}.{name}.lora_A.weight": down, f"{part}.{name}.lora_B.weight": up}
            else:
                name = KOHYA_PREFIXES[part] + name.replace(".", "_")
                tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
                tensors[f"{name}.alpha"] = np.array(alpha, np.float32)
    metadata = {PEFT_METADATA: json.dumps(_peft_metadata(factors), sort_keys=True)} if naming == "peft" else {}
    write_tensors(path, {name: np.ascontiguousarray(value) for name, value in tensors.items()}, metadata)


def _place(key: str, known: Mapping[str, Mapping[str, str]]) -> tuple[str, str, str] | None:
    """Part, module and factor ("down", "up", "alpha") of a key; None when no module of the model is meant."""
    ending = next((ending for ending in ENDINGS if key.endswith(ending)), None)
    if ending is None:
        return None
    name = key.removesuffix(ending).removeprefix("base_model.model.").replace(".processor.", ".")
    for part, names in known.items():
        if name.startswith(KOHYA_PREFIXES[part]):
            module = name.removeprefix(KOHYA_PREFIXES[part]).removeprefix(TEXT_PREFIX.replace(".", "_"))
        else:
            module = _rename_old(name.removeprefix(f"{part}.").removeprefix(TEXT_PREFIX), part, ending)
        if module in names:
            return part, names[module], ENDINGS[ending]
    return None


def _rename_old(module: str, part: str, ending: str) -> str:
    parent, _, leaf = module.rpartition(".")
    if not ending.startswith("_lora"):
        return module
    if part == "text_encoder":
        return f"{parent}.{OLD_TEXT_MODULES.get(leaf, leaf)}"
    return f"{module}.0" if leaf == "to_out" else module


def _factors(where: str, found: Mapping[str, np.ndarray], settings: Mapping[str, Any], module: str) -> LoRAFactors:
    missing = [factor for factor in ("down", "up") if factor not in found]
    if missing:
        raise WeightsError(f"{where}: its {missing[0]} factor is missing; copy or download the file again")
    down, up = found["down"], found["up"]
    chained = down.ndim in (2, 4) and up.ndim == down.ndim and up.shape[1] == down.shape[0] > 0
    if not chained or found.get("alpha", np.zeros(())).size != 1:
        raise WeightsError(f"{where}: factors of shapes {down.shape} and {up.shape} do not fit; export the LoRA again")
    if "alpha" in found:
        return LoRAFactors(down, up, float(found["alpha"].item()))
    try:
        return LoRAFactors(down, up, _peft_alpha(settings, module, down.shape[0]))
    except (ValueError, TypeError, AttributeError, re.error) as error:
        raise WeightsError(f"{where}: the alpha that its metadata state is no number; export the LoRA again") from error


def _peft_settings(path: str | os.PathLike) -> dict[str, dict[str, Any]]:
    """PEFT's settings by part; empty where the file states none."""
    try:
        stated = dict(json.loads(read_metadata(path).get(PEFT_METADATA, "{}")))
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{path}: its metadata {PEFT_METADATA} cannot be read; export the LoRA again") from error
    settings: dict[str, dict[str, Any]] = {}
    for key, value in stated.items():
        part, _, setting = key.partition(".")
        settings.setdefault(part, {})[setting] = value
    return settings


def _peft_alpha(settings: Mapping[str, Any], module: str, rank: int) -> float:
    """The module's alpha: that of the first pattern that fits the end of its name, or the common one, or the rank."""
    patterns = settings.get("alpha_pattern") or {}
    fitting = (alpha for pattern, alpha in patterns.items() if re.fullmatch(rf"(.*\.)?({pattern})", module))
    return float(next(fitting, settings.get("lora_alpha", rank)))


def _peft_metadata(factors: Mapping[str, Mapping[str, LoRAFactors]]) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for part, modules in factors.items():
        ranks = {module: len(down) for module, (down, _, _) in modules.items()}
        alphas = {module: alpha for module, (_, _, alpha) in modules.items()}
        rank, alpha = next(iter(ranks.values())), next(iter(alphas.values()))
        settings = {
            "r": rank,
            "lora_alpha": alpha,
            "target_modules": sorted(modules),
            "rank_pattern": {re.escape(module): value for module, value in ranks.items() if value != rank},
            "alpha_pattern": {re.escape(module): value for module, value in alphas.items() if value != alpha},
        }
        metadata |= {f"{part}.{setting}": value for setting, value in settings.items()}
    return metadata
