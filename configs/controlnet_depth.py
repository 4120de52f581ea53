"""ControlNet of the hand's depth (DECISIONS B3) on Stable Diffusion 1.5, or on its inpainting model (`:inpainting`).

`controlnet_depth.py:tiny` trains on the embedded inpainting model, no download; a share of its examples is hidden
altogether, so that the result also generates from prompts.
"""

from ml_collections import ConfigDict

from configs.controlnet import controlnet_config


def get_config(variant: str = "") -> ConfigDict:
    return controlnet_config("controlnet_depth.py", variant, ("depth",), {"data": {"path": "freihand"}})
