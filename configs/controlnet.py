"""What the recipes of ControlNets share: models, sizes of the tiny one, and how they train."""

from typing import Any

from ml_collections import ConfigDict

MODELS = {
    "": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "inpainting": "stable-diffusion-v1-5/stable-diffusion-inpainting",
    "tiny": "tiny_inpainting",
}


def controlnet_config(name: str, variant: str, conditions: tuple[str, ...], fields: dict[str, Any]) -> ConfigDict:
    """Makes a recipe of ControlNets.

    Args:
        name: of the recipe, for messages.
        variant: a key of `MODELS`.
        conditions: the pictures that are followed, a network each.
        fields: what this recipe has otherwise, its `data.path` among it; the tiny model's sizes come after them.

    Raises:
        ValueError: no such variant.
    """
    if variant not in MODELS:
        raise ValueError(f"{name} has no variant {variant!r}; use :inpainting, :tiny or none")
    config = ConfigDict(
        {
            "task": "controlnet",
            "steps": 20_000,
            "batch_size": 16,
            "optim": {"lr": 1e-5, "weight_decay": 1e-2},
            "model": MODELS[variant],
            "dtype": "float32",
            "conditions": conditions,
            "stem_channels": (16, 32, 96, 256),
            "structural_fusion": "none",  # see sesahand.py
            "hand_alpha": 0.0,
            "start": "",  # a ControlNet to go on with; empty: a copy of the UNet's encoder
            "caption_dropout": 0.5,  # Zhang et al. 2023, section 3.4
            # captions: JSON file, captions by record id in place of the records' own
            "data": {"path": "", "image_size": 512, "full_mask_prob": 0.0, "captions": ""},
        }
    )
    config.update(fields)
    if variant == "tiny":
        config.update(_tiny())
    return config


def _tiny() -> dict[str, Any]:
    return {
        "steps": 1_000,
        "eval_every": 100,
        "preview_every": 250,
        "checkpoint": {"every": 250},
        "optim": {"lr": 3e-4, "schedule": "cosine", "warmup_steps": 50},
        "stem_channels": (16, 32, 64),
        "data": {"path": "demo/records", "image_size": 96, "full_mask_prob": 0.3},
    }
