"""MGHanD's textual guidance: a concept slider from malformed to right hands; `:tiny` on the embedded model.

`model` is a folder in the diffusers layout: `hf download CompVis/stable-diffusion-v1-4 --local-dir
CompVis/stable-diffusion-v1-4`. `data.path` names triples of prompts: a JSON file, or one of data_pipelines/prompts.
Those of `:tiny` are the captions that the embedded model has learned malformed hands by. `launch.export --to lora`
writes what diffusers and other programs load.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "full") -> ConfigDict:
    if variant not in ("full", "tiny"):
        raise ValueError(f"mghand_lora.py has no variant {variant!r}; use mghand_lora.py or mghand_lora.py:tiny")
    tiny = variant == "tiny"
    return ConfigDict(
        {
            "task": "slider",
            "steps": 300 if tiny else 1000,
            "batch_size": 4,
            "log_every": 10,
            "eval_every": 50 if tiny else 100,
            "eval_batches": 4,
            "preview_every": 100 if tiny else 200,
            "checkpoint": {"every": 50 if tiny else 100},
            "optim": {"lr": 2e-3 if tiny else 2e-4},
            "model": "tiny_inpainting" if tiny else "CompVis/stable-diffusion-v1-4",
            "dtype": "float32" if tiny else "bfloat16",
            "lora": {"rank": 4, "alpha": 1.0},
            "slider": {"strength": 4.0, "steps": 20 if tiny else 50, "guidance_scale": 3.0},
            "data": {
                "loader": "data_pipelines.prompt_pairs:make_loader",
                "path": "tiny_hands" if tiny else "hands",
                "image_size": 96 if tiny else 512,
            },
        }
    )
