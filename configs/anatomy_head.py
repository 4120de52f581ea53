"""HandAnat's head: 0.47 M parameters on the feature maps that launch.assets.anatomy_head makes."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "task": "anatomy_head",
            "steps": 2200,
            "batch_size": 64,
            "ema_decay": 0.998,
            "eval_every": 550,
            "checkpoint": {"every": 220, "keep": 2},
            "eval_batches": 16,
            "preview_every": 0,
            "optim": {"lr": 2e-3, "schedule": "cosine", "warmup_steps": 100, "weight_decay": 2e-2},
            "dropout": 0.3,
            "loss": {"smoothing": 0.05, "count_weight": 0.5},
            "data": {"loader": "data_pipelines.hand_maps:make_loader"},
        }
    )
