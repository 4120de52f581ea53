"""SesaHand on Stable Diffusion 1.5, or on its inpainting model (`:inpainting`): a ControlNet of the shaded hand mesh
whose self-attention refines what it gives, with cross-attention biased to the words on hands.

Ablations of the paper: `--config.structural_fusion=none` (without SF), `--config.hand_alpha=0.0` (without AE), both
(ControlNet); its sweep is 1.0, 2.0, 2.5. The captions are those of the records: refined ones are SE. Fusion can also
be "coarsest" (all outputs of the mid block's size) or "per_level" (DECISIONS D1). The paper gives no learning rate,
batch or steps; those here are the ControlNets'. diffusers reads an export, but warns that it does not know the two
fields, and runs it as a plain ControlNet; launch.generate knows both.

`sesahand.py:tiny` trains on the embedded inpainting model, no download; a share of its examples is hidden altogether,
so that the result also generates from prompts.
"""

from ml_collections import ConfigDict

MODELS = {
    "": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "inpainting": "stable-diffusion-v1-5/stable-diffusion-inpainting",
    "tiny": "tiny_inpainting",
}


def get_config(variant: str = "") -> ConfigDict:
    if variant not in MODELS:
        raise ValueError(f"sesahand.py has no variant {variant!r}; use :inpainting, :tiny or none")
    config = ConfigDict(
        {
            "task": "controlnet",
            "steps": 20_000,
            "batch_size": 16,
            "optim": {"lr": 1e-5, "weight_decay": 1e-2},
            "model": MODELS[variant],
            "dtype": "float32",
            "conditions": ("mesh",),
            "stem_channels": (16, 32, 96, 256),
            "structural_fusion": "mid",
            "hand_alpha": 2.0,
            "start": "",  # a ControlNet to go on with; empty: a copy of the UNet's encoder
            "caption_dropout": 0.5,  # Zhang et al. 2023, section 3.4
            "data": {"path": "coco_captions", "image_size": 512, "full_mask_prob": 0.0},
        }
    )
    if variant == "tiny":
        config.update(_tiny())
    return config


def _tiny() -> dict:
    return {
        "steps": 1_000,
        "eval_every": 100,
        "preview_every": 250,
        "checkpoint": {"every": 250},
        "optim": {"lr": 3e-4, "schedule": "cosine", "warmup_steps": 50},
        "stem_channels": (16, 32, 64),
        "data": {"path": "demo/records", "image_size": 96, "full_mask_prob": 0.3},
    }
