"""The tiny autoencoder against diffusers', both ways."""

import json

import jax
import numpy as np
import pytest

from handjax.diffusion.taesd import load_taesd, save_taesd
from handjax.errors import WeightsError
from tests.parity.sd_models import assert_equal_outputs, normal, redraw, to_nchw, to_nhwc, torch

SIZES = {
    "encoder_block_out_channels": (8, 8, 8),
    "decoder_block_out_channels": (12, 12, 12),
    "num_encoder_blocks": (1, 2, 1),
    "num_decoder_blocks": (2, 1, 1),
}


@pytest.fixture(scope="module")
def theirs():
    from diffusers import AutoencoderTiny

    return redraw(AutoencoderTiny(**SIZES))


@pytest.fixture
def folder(theirs, tmp_path):
    theirs.save_pretrained(tmp_path / "taesd")
    return tmp_path / "taesd"


def test_outputs(theirs, folder):
    taesd, params = load_taesd(folder)
    images, latents = normal((2, 16, 24, 3), 0), 3 * normal((2, 4, 6, 4), 1)
    with torch.no_grad():
        encoded = to_nhwc(theirs.encode(to_nchw(images)).latents)
        decoded = to_nhwc(theirs.decode(to_nchw(latents)).sample)
    apply = jax.jit(taesd.apply, static_argnames="method")
    assert_equal_outputs(apply({"params": params}, images, method="encode")[0], encoded)
    assert_equal_outputs(apply({"params": params}, latents, method="decode"), decoded)


def test_what_we_write_opens_there_bit_for_bit(theirs, folder, tmp_path):
    from diffusers import AutoencoderTiny

    save_taesd(*load_taesd(folder), tmp_path / "ours", np.float32)
    again = AutoencoderTiny.from_pretrained(tmp_path / "ours")
    assert {key: tuple(again.config[key]) for key in SIZES} == SIZES
    for name, value in theirs.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_other_architectures_are_one_line(folder):
    document = json.loads((folder / "config.json").read_text())
    for change, message in (
        ({"act_fn": "gelu"}, "TAESD config: act_fn='gelu' is not supported"),
        ({"num_encoder_blocks": [1, 2]}, "give as many of each"),
        ({"latent_channels": 16}, "of another shape, first"),
    ):
        (folder / "config.json").write_text(json.dumps({**document, **change}))
        with pytest.raises(WeightsError, match=message) as error:
            load_taesd(folder)
        assert "\n" not in str(error.value)
