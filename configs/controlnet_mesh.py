"""ControlNet of the shaded hand mesh on Stable Diffusion 1.5, or on its inpainting model (`:inpainting`).

`controlnet_mesh.py:tiny` trains on the embedded inpainting model, no download; a share of its examples is hidden
altogether, so that the result also generates from prompts. Size, batch, learning rate, plain Adam and 200 epochs are
MMHMR's (section H of its supplement), which trains on DexYCB; its captions are those of `launch.caption --style mmhmr`.
"""

from ml_collections import ConfigDict

from configs.controlnet import controlnet_config


def get_config(variant: str = "") -> ConfigDict:
    fields = {
        "steps": 1_455_000,  # 200 epochs of the 465,600 pictures that DexYCB's split s0 trains on
        "batch_size": 16 if variant == "tiny" else 64,
        "optim": {"weight_decay": 0.0},
        "data": {"path": "dexycb", "image_size": 256},
    }
    return controlnet_config("controlnet_mesh.py", variant, ("mesh",), fields)
