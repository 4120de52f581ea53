"""HandRefiner: the published depth ControlNet goes on to learn hands, on Stable Diffusion 1.5's inpainting model.

`start` is `hf download lllyasviel/control_v11f1p_sd15_depth --local-dir lllyasviel/control_v11f1p_sd15_depth`. Learning
rate, batch (4, over 4 micro-batches) and 3 epochs are those of github.com/wenquanlu/HandRefiner, training/train.py,
whose data were RHD and SynthesisAI's; the rest is as in controlnet_depth.py. `handrefiner.py:tiny` trains on the
embedded model, no download.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    config = ConfigDict(
        {
            "task": "controlnet",
            "steps": 8_000,  # about 3 epochs of RHD's 41,258 pictures
            "batch_size": 16,
            "accumulation": 4,
            "optim": {"lr": 1e-5, "weight_decay": 1e-2},
            "model": "stable-diffusion-v1-5/stable-diffusion-inpainting",
            "dtype": "float32",
            "conditions": ("depth",),
            "stem_channels": (16, 32, 96, 256),
            "structural_fusion": "none",  # see sesahand.py
            "hand_alpha": 0.0,
            "start": "lllyasviel/control_v11f1p_sd15_depth",
            "caption_dropout": 0.5,
            "data": {"path": "rhd", "image_size": 512},
        }
    )
    if variant == "tiny":
        config.update(_tiny())
    elif variant:
        raise ValueError(f"handrefiner.py has no variant {variant!r}; use handrefiner.py or handrefiner.py:tiny")
    return config


def _tiny() -> dict:
    return {
        "steps": 1_000,
        "eval_every": 100,
        "preview_every": 250,
        "checkpoint": {"every": 250},
        "optim": {"lr": 3e-4, "schedule": "cosine", "warmup_steps": 50},
        "accumulation": 1,
        "model": "tiny_inpainting",
        "stem_channels": (16, 32, 64),
        "start": "",
        "data": {"path": "demo/records", "image_size": 96},
    }
