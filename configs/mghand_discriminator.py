"""MGHanD's visual guidance: real hands against generated ones; `:tiny` on EfficientNet-Lite0 and the embedded model.

`data.path` and `data.generated` are folders of records: of photographs, and of what the model that is to be guided
makes of their captions (`launch.generate`, then `launch.precompute` on its pictures). `dino` is the file of DINO's
published weights, dino_deitsmall16_pretrain.pth of facebookresearch/dino; it is pickled, so that reading it needs
PyTorch and `--config.allow_pickle=True`. `launch.export --to handjax` writes what `--mghand-discriminator` of
launch.generate takes.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "full") -> ConfigDict:
    if variant not in ("full", "tiny"):
        raise ValueError(
            f"mghand_discriminator.py has no variant {variant!r}; use mghand_discriminator.py or "
            "mghand_discriminator.py:tiny"
        )
    tiny = variant == "tiny"
    model = "tiny_inpainting" if tiny else "CompVis/stable-diffusion-v1-4"
    return ConfigDict(
        {
            "task": "discriminator",
            "steps": 2000 if tiny else 20_000,
            "batch_size": 16 if tiny else 64,
            "ema_decay": 0.99 if tiny else 0.999,
            "eval_every": 200 if tiny else 1000,
            "preview_every": 500 if tiny else 5000,
            "optim": {"lr": 2e-3, "b1": 0.0, "b2": 0.99, "weight_decay": 0.0},  # as StyleGAN-T's
            "model": model,
            "backbone": "efficientnet_lite0" if tiny else "dino_vits16",
            "dino": "",
            "guard": {"spike": 0.0},  # a hinge loss near 0 makes every example that is told wrong a spike
            "allow_pickle": False,
            "data": {
                "loader": "data_pipelines.real_generated:make_loader",
                "path": "",
                "generated": "",
                # at 96, how sharp a crop is tells nearly all of the embedded model's from photographs
                "image_size": 64 if tiny else 224,
                "tokenizer": f"{model}/tokenizer",
                "max_length": 32 if tiny else 77,
                # the guide's crop is 1.5 tight boxes about the detector's points
                "crop_scale": (1.35, 1.65),
                "max_shift": 0.05,
                "max_rotation": 0.0,
            },
        }
    )
