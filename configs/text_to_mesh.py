"""MMHMR's text-to-mesh: `--config text_to_mesh.py --config.tokenizer=DIR --config.data.path=DIR`.

The tokenizer is an exported run of vq_mano.py; `--config.text_model` a folder of CLIP, such as
openai/clip-vit-large-patch14, or of a Stable Diffusion model. The records have captions and meshes; the paper's are the
ASL alphabet with meshes that MMHMR read from the pictures (`launch.precompute relabelled:RECORDS`). `:tiny` reads by
the text encoder of the embedded model and trains on a laptop, on a tokenizer of `vq_mano.py:tiny`.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "full") -> ConfigDict:
    if variant not in ("full", "tiny"):
        raise ValueError(f"unknown variant {variant!r}; use full or tiny")
    tiny = variant == "tiny"
    return ConfigDict(
        {
            "task": "text_to_mesh",
            "steps": 4000 if tiny else 400_000,
            "batch_size": 32 if tiny else 48,
            "log_every": 50,
            "eval_every": 500 if tiny else 1000,
            "preview_every": 1000 if tiny else 2000,
            # plain Adam, as mmhmr.py
            "optim": {"lr": 5e-4 if tiny else 1e-5, "weight_decay": 0.0, "clip_norm": 1.0 if tiny else 0.0},
            "tokenizer": "",
            "text_model": "tiny_inpainting" if tiny else "openai/clip-vit-large-patch14",
            "hand_model": "",  # path of a MANO file; empty is the open hand
            "network": {
                "features": 96 if tiny else 256,
                "heads": 4 if tiny else 8,
                "graph_blocks": 2,
                "layers": 2 if tiny else 4,
            },
            "most": 0.7,  # upper end of τ, of which the share of hidden tokens is the cosine
            "loss": {"mask": 1.0, "rotation": 1e-3, "joints_3d": 5e-2},  # as mmhmr.py, without picture and shape
            "data": {
                "image_size": 64,  # of windows that nobody looks into
                "hand_model": "open_hand",
                "only_right": True,
                "crop_scale": (1.5, 2.0),
                "max_shift": 0.0,
                "max_rotation": 0.0,  # a prompt does not tell how a hand is turned in its picture
            },
        }
    )
