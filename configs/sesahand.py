"""SesaHand on Stable Diffusion 1.5, or on its inpainting model (`:inpainting`): a ControlNet of the shaded hand mesh
whose self-attention refines what it gives, with cross-attention biased to the words on hands.

Ablations of the paper: `--config.structural_fusion=none` (without SF), `--config.hand_alpha=0.0` (without AE), both
(ControlNet); its sweep is 1.0, 2.0, 2.5. The captions are those of the records: refined ones are SE. Fusion can also
be "coarsest" (all outputs of the mid block's size) or "per_level" (DECISIONS D1). The paper gives no learning rate,
batch or steps; those here are the ControlNets'. diffusers reads an export, but warns that it does not know the two
fields, and runs it as a plain ControlNet; launch.generate knows both.

`sesahand.py:tiny` trains on the embedded inpainting model, no download; a share of its examples is hidden altogether,
so that the result also generates from prompts.
"""

from ml_collections import ConfigDict

from configs.controlnet import controlnet_config


def get_config(variant: str = "") -> ConfigDict:
    fields = {"structural_fusion": "mid", "hand_alpha": 2.0, "data": {"path": "coco_captions"}}
    return controlnet_config("sesahand.py", variant, ("mesh",), fields)
