"""HandRefiner: the published depth ControlNet goes on to learn hands, on Stable Diffusion 1.5's inpainting model.

`start` is `hf download lllyasviel/control_v11f1p_sd15_depth --local-dir lllyasviel/control_v11f1p_sd15_depth`. Learning
rate, batch (4, over 4 micro-batches) and 3 epochs are those of github.com/wenquanlu/HandRefiner, training/train.py,
whose data were RHD and SynthesisAI's; the rest is as in controlnet_depth.py. `handrefiner.py:tiny` trains on the
embedded model, no download.
"""

from ml_collections import ConfigDict

from configs.controlnet import controlnet_config


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "tiny"):
        raise ValueError(f"handrefiner.py has no variant {variant!r}; use handrefiner.py or handrefiner.py:tiny")
    # it is of the inpainting model; 8,000 steps are about 3 epochs of RHD's 41,258 pictures
    published = {"steps": 8_000, "accumulation": 4, "start": "lllyasviel/control_v11f1p_sd15_depth"}
    fields = {"data": {"path": "rhd"}, **({} if variant == "tiny" else published)}
    config = controlnet_config("handrefiner.py", variant or "inpainting", ("depth",), fields)
    del config.data.full_mask_prob  # all examples show what is around the hand
    return config
