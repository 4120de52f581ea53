"""Models without their weights."""

import jax
import numpy as np
import pytest

from handjax.diffusion.model import load_stable_diffusion
from handjax.errors import WeightsError

INPAINTING = "shapes:stable-diffusion-v1-5/stable-diffusion-inpainting"
# Parameters of the published text-to-image UNet, of its autoencoder and of CLIP ViT-L/14's text model.
UNET, VAE, TEXT = 859_520_964, 83_653_863, 123_060_480


def parameters(tree) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def test_stable_diffusion_has_all_its_parameters_and_no_weight():
    model = load_stable_diffusion(INPAINTING, "bfloat16")
    # five more input channels of a 3x3 convolution to 320
    assert parameters(model.unet_params) == UNET + 5 * 9 * 320
    assert (parameters(model.vae_params), parameters(model.text_params)) == (VAE, TEXT)
    assert {type(leaf) for leaf in jax.tree.leaves(model)} == {jax.ShapeDtypeStruct}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(model)} == {"bfloat16"}
    assert model.tokenizer([""]).shape == (1, 77)


def test_a_folder_gives_the_shapes_of_its_weights():
    model, shapes = load_stable_diffusion("tiny_inpainting"), load_stable_diffusion("shapes:tiny_inpainting")
    assert jax.tree.map(np.shape, model) == jax.tree.map(lambda leaf: leaf.shape, shapes)
    assert (model.schedule, model.tokenizer) == (shapes.schedule, shapes.tokenizer)


def test_sizes_that_nobody_knows():
    with pytest.raises(WeightsError, match="someone/model: its sizes are not known here; give a model's folder"):
        load_stable_diffusion("shapes:someone/model")
