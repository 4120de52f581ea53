"""SGMHand on Stable Diffusion 1.5 inpainting, as in the paper; `sgm.py:tiny` on the embedded model, no download.

`model` is a folder in the diffusers layout: `hf download stable-diffusion-v1-5/stable-diffusion-inpainting --local-dir
stable-diffusion-v1-5/stable-diffusion-inpainting`. Ablations: `--config.sgm.attention=False` (Table 4, FM only),
`--config.sgm.modulator=False` (SA only), both (Table 3, KA without SGM: the attention map is then the energy of the
hint features), `--config.loss.ka_weight=0.0` (Table 3, Fig. 8).
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    config = ConfigDict(
        {
            "task": "sgm",
            "steps": 10_000,
            "batch_size": 8,
            "optim": {"lr": 5e-5, "weight_decay": 1e-2},
            "model": "stable-diffusion-v1-5/stable-diffusion-inpainting",
            "start": "",  # an exported module to go on with
            "dtype": "float32",
            "data": {
                "path": "rhd",
                "image_size": 512,
                "brightness": 0.0,
                "contrast": 0.0,
                "saturation": 0.0,
                "hue": 0.0,
                "keypoint_noise": 0.0,
            },
            "sgm": {
                "stem_channels": (16, 32, 96, 256),
                "fusion_channels": 640,
                "attention": True,
                "modulator": True,
                "levels": (),
            },
            "loss": {"ka_weight": 0.3, "ka_reduction": "mean"},
            "caption_dropout": 0.1,
        }
    )
    if variant == "tiny":
        config.update(_tiny())
    elif variant:
        raise ValueError(f"sgm.py has no variant {variant!r}; use sgm.py or sgm.py:tiny")
    return config


def _tiny() -> dict:
    return {
        "steps": 300,
        "log_every": 10,
        "eval_every": 100,
        "preview_every": 150,
        "checkpoint": {"every": 50},
        "optim": {"lr": 1e-3, "schedule": "cosine", "warmup_steps": 20},
        "model": "tiny_inpainting",
        "data": {"path": "demo/records", "image_size": 96},
        # every level but the mid block's: at 6x6 alone a finger is thinner than a cell
        "sgm": {"stem_channels": (16, 32, 64), "fusion_channels": 96, "levels": (0, 1)},
    }
