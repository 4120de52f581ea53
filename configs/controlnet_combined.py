"""ControlNets of depth, skeleton and mesh, trained together and exported one a folder, on Stable Diffusion 1.5.

On its inpainting model: `controlnet_combined.py:inpainting`; other sets: `--config.conditions=('skeleton','mesh')`.

`controlnet_combined.py:tiny` trains on the embedded inpainting model, no download; a share of its examples is hidden
altogether, so that the result also generates from prompts.
"""

from ml_collections import ConfigDict

from configs.controlnet import controlnet_config


def get_config(variant: str = "") -> ConfigDict:
    return controlnet_config(
        "controlnet_combined.py", variant, ("depth", "skeleton", "mesh"), {"data": {"path": "freihand"}}
    )
