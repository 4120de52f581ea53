"""The embedded tiny model: text encoder and 9-channel UNet on 24x24 latents, 7 M parameters.

`vae` is a folder that has the trained autoencoder of `tiny_vae.py` (`launch.export --to diffusers`). Attention to the
text is at 12x12 and in the mid block at 6x6, because at 24x24 it would double the time of a step on a CPU.
"""

from ml_collections import ConfigDict

FULL_MASK_SHARE = 0.3  # these examples teach generation from text alone


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "task": "inpainting",
            "steps": 5_000,
            "batch_size": 16,
            "ema_decay": 0.999,
            "optim": {"lr": 6e-4, "schedule": "cosine", "warmup_steps": 100, "weight_decay": 1e-2},
            "data": {
                "image_size": 96,
                "max_length": 32,
                "tokenizer": "tiny_inpainting/tokenizer",
                "full_mask_prob": FULL_MASK_SHARE,
            },
            "vae": "tiny_inpainting",
            "start": "",  # a model of these sizes to go on with
            "unet": {
                "block_out_channels": (64, 96, 160),
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
                "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                "layers_per_block": 1,
                "attention_head_dim": 4,
                "norm_num_groups": 32,
            },
            "text_encoder": {
                "vocab_size": 1798,
                "hidden_size": 128,
                "intermediate_size": 512,
                "projection_dim": 128,
                "num_hidden_layers": 4,
                "num_attention_heads": 4,
                "max_position_embeddings": 32,
                "bos_token_id": 1796,
                "eos_token_id": 1797,
                "pad_token_id": 1797,
            },
            "caption_dropout": 0.1,
        }
    )
