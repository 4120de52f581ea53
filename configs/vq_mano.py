"""MMHMR's tokenizer: 64 tokens of 2048 codes of 256 numbers for the 16 rotations of a hand.

`:tiny` is a network that learns on a laptop in minutes, `:embedded` the one in the package.
`--config.data.hand_model=MANO_RIGHT.pkl` trains on MANO.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "full") -> ConfigDict:
    if variant not in ("full", "tiny", "embedded"):
        raise ValueError(f"unknown variant {variant!r}; use full, tiny or embedded")
    tiny = variant == "tiny"
    config = ConfigDict(
        {
            "task": "vq_mano",
            "steps": 3000 if tiny else 400_000,
            "batch_size": 64 if tiny else 512,
            "log_every": 100,
            "eval_every": 500 if tiny else 10_000,
            "eval_batches": 8 if tiny else 40,  # full: 20,480 poses
            "preview_every": 1000 if tiny else 50_000,
            "checkpoint": {"every": 500 if tiny else 10_000},
            "optim": {  # plain Adam
                "lr": 1e-3 if tiny else 1e-4,
                "schedule": "cosine" if tiny else "constant",
                "weight_decay": 0.0,
                "clip_norm": 0.0,
            },
            "network": {"tokens": 16 if tiny else 64, "width": 64 if tiny else 512, "blocks": 1 if tiny else 2},
            "quantizer": {
                "codes": 256 if tiny else 2048,
                "dim": 32 if tiny else 256,
                "decay": 0.99,
                "dead_below": 0.05,  # of the uses that a code would have if all were used alike
            },
            "loss": {
                "rotation_weight": 1.0,
                "vertex_weight": 0.5,  # of centimetres, as the next
                "joint_weight": 0.3,
                # the paper gives none; beside errors in centimetres 0.02 lets latents run away from their codes
                "commitment_weight": 1.0,
                "embedding_weight": 0.0,  # 0.02: the codebook is learnt by the paper's λ_E in place of moving averages
            },
            "data": {"loader": "data_pipelines.poses:make_loader", "hand_model": ""},
        }
    )
    if variant == "embedded":
        config.update(
            {
                "steps": 12_000,
                "batch_size": 64,
                "eval_every": 2000,
                "eval_batches": 16,
                "preview_every": 0,
                "checkpoint": {"every": 500, "keep": 2},
                "optim": {"lr": 1e-3, "schedule": "cosine"},
                "network": {"tokens": 32, "width": 96, "blocks": 1},
                "quantizer": {"codes": 512, "dim": 64},
            }
        )
    return config
