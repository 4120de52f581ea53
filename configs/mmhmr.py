"""MMHMR's masked transformer on crops of hands: `--config mmhmr.py --config.tokenizer=DIR --config.data.path=DIR`.

The tokenizer is an exported run of vq_mano.py. `:small` has ViT-S, `:tiny` a network that a laptop can train,
`:embedded` the one in the package, which reads maps of EfficientNet-Lite0 in place of patches and comes on top of
`vq_mano.py:embedded`. `--config.encoder_weights=hamer.ckpt --config.allow_pickle=True` starts from HaMeR's encoder
(ViT-H).
"""

from ml_collections import ConfigDict

ENCODERS = {
    "full": {"width": 1280, "depth": 32, "heads": 16},
    "small": {"width": 384, "depth": 12, "heads": 6},
    "tiny": {"width": 96, "depth": 4, "heads": 3},
    "embedded": {"width": 192, "depth": 4, "heads": 6, "stem": "efficientnet"},
}


def get_config(variant: str = "full") -> ConfigDict:
    if variant not in ENCODERS:
        raise ValueError(f"unknown variant {variant!r}; use {', '.join(ENCODERS)}")
    tiny, embedded = variant == "tiny", variant == "embedded"
    config = ConfigDict(
        {
            "task": "mesh_recovery",
            "steps": 20_000 if tiny else 400_000,
            "batch_size": 16 if tiny else 48,
            "log_every": 50,
            "eval_every": 1000,
            "preview_every": 2000,
            "optim": {"lr": 3e-4 if tiny else 1e-5, "weight_decay": 0.0, "clip_norm": 0.0},  # plain Adam
            "tokenizer": "",
            "hand_model": "",  # path of a MANO file; empty is the open hand
            "encoder_weights": "",
            "init_weights": "",  # folder of an exported run, with whose parameters this one begins
            "allow_pickle": False,  # of encoder_weights, as in HaMeR's own checkpoint
            "dtype": "float32",  # of the encoder's computation; bfloat16 on TPUs and GPUs
            "encoder": ENCODERS[variant],
            "network": {
                "features": 96 if tiny else 256,
                "heads": 4 if tiny else 8,
                "points": 4,
                "scales": (1, 4),
                "graph_blocks": 2,
                "layers": 2 if tiny else 4,
                "head_layers": 2 if tiny else 6,
                "use_cue": True,
            },
            "corruption": {
                "most": 0.7,
                "all_tokens": False,
                "cue_noise": 0.01,
                "joint_dropout": 0.1,
                "cue_dropout": 0.25,
            },
            "loss": {"mask": 1.0, "rotation": 1e-3, "betas": 5e-4, "joints_3d": 5e-2, "joints_2d": 1e-2},
            "data": {
                "image_size": 128 if embedded else 256,
                "hand_model": "open_hand",
                "only_right": True,
                "crop_scale": (1.5, 2.0),
                "max_shift": 0.1,
                "max_rotation": 30.0,
                "brightness": 0.2,
                "contrast": 0.2,
                "saturation": 0.2,
                "hue": 0.05,
                "occlusion_prob": 0.3,
            },
        }
    )
    if embedded:
        config.update(
            {
                "steps": 3000,
                "batch_size": 32,
                "ema_decay": 0.998,
                "eval_every": 500,
                "checkpoint": {"every": 250, "keep": 2},
                "optim": {"lr": 7e-4, "schedule": "cosine", "warmup_steps": 200, "clip_norm": 1.0},
                "network": {"features": 128, "heads": 4, "layers": 3, "head_layers": 2},
                # half of the pictures without keypoints, and pixels that count more: it is to do well by itself
                "corruption": {"cue_dropout": 0.5},
                "loss": {"joints_2d": 5e-2},
            }
        )
    return config
