"""The autoencoder of the embedded tiny model: 96x96 pictures to 24x24x4 latents, 1.7 M parameters."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "task": "autoencoder",
            "steps": 900,
            "batch_size": 8,
            "ema_decay": 0.99,
            "optim": {"lr": 5e-4, "schedule": "cosine", "warmup_steps": 50, "weight_decay": 1e-4},
            "data": {
                "image_size": 96,
                "crop_scale": (1.3, 1.9),
            },
            "vae": {
                "block_out_channels": (32, 64, 96),
                "layers_per_block": 1,
                "latent_channels": 4,
                "norm_num_groups": 16,
            },
            "loss": {"gradient_weight": 1.0, "kl_weight": 1e-6},
        }
    )
