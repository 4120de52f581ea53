"""A recipe of two seconds for the tests of training."""

import ml_collections


def get_config(variant: str = "small") -> ml_collections.ConfigDict:
    if variant not in ("small", "slow"):
        raise ValueError(f"unknown variant {variant!r}; use small or slow")
    return ml_collections.ConfigDict(
        {
            "task": "tests.training.toy_task:make",
            "features": 6,
            "absolute": 0.3,
            "steps": 40,
            "batch_size": 8,
            "ema_decay": 0.9,
            "log_every": 5,
            "eval_every": 20,
            "eval_batches": 2,
            "preview_every": 20,
            "checkpoint": {"every": 10, "keep": 2},
            "optim": {"lr": 1e-2},
            "data": {
                "loader": "tests.training.toy_task:make_loader",
                "examples": 32,
                "hang": "",
                "delay": 0.005 if variant == "slow" else 0.0,
            },
        }
    )
