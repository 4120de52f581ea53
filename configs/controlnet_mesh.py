"""ControlNet of the shaded hand mesh on Stable Diffusion 1.5, or on its inpainting model (`:inpainting`).

`controlnet_mesh.py:tiny` trains on the embedded inpainting model, no download; a share of its examples is hidden
altogether, so that the result also generates from prompts. Size, batch and learning rate are MMHMR's (section H of its
supplement), whose 200 epochs are `--config.steps` of its data set.
"""

from ml_collections import ConfigDict

from configs.controlnet import controlnet_config


def get_config(variant: str = "") -> ConfigDict:
    fields = {
        "batch_size": 16 if variant == "tiny" else 64,
        "optim": {"weight_decay": 0.0},
        "data": {"path": "dexycb", "image_size": 256},
    }
    return controlnet_config("controlnet_mesh.py", variant, ("mesh",), fields)
