"""Pictures depend on their wish and nothing else."""

import dataclasses

import jax
import numpy as np
import pytest

from handjax.adapters.controlnet import ControlNet, ControlNetConfig, initial_controlnet
from handjax.diffusion.networks import initial_params
from handjax.diffusion.samplers import DDIM, EulerAncestral
from handjax.diffusion.unet import UNet
from handjax.errors import WeightsError
from handjax.hand.words import told_by
from handjax.inference import generate
from handjax.inference.generate import Control, Generator, Wish
from tests.diffusion.sd_tiny import UNET, redraw, tiny_model

SIZE = (16, 32)
LONG = Wish("a hand " * 40, seed=9)
WISHES = [LONG, Wish("a fist", seed=1), Wish("a fist", "a face", seed=2), Wish("a (left:1.4) hand", seed=1)]


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def pictures(generator, wishes):
    return {wish: picture.astype(int) for wish, picture in generator(wishes)}


@pytest.mark.slow
def test_a_picture_does_not_depend_on_its_batch(model):
    alone = Generator(model, EulerAncestral(model.schedule, 3), SIZE, 5.0)
    together = dataclasses.replace(alone, batch=4)
    compiled = generate._generate._cache_size()
    got = pictures(together, WISHES)
    assert list(got) == [*WISHES[1:], LONG]  # longer prompts come last
    assert generate._generate._cache_size() == compiled + 2  # one program a number of chunks
    for wish, picture in pictures(alone, WISHES[1:]).items():
        assert picture.shape == (*SIZE, 3) and picture.std() > 5
        np.testing.assert_allclose(got[wish], picture, atol=2)
    flat = [picture.ravel() for picture in got.values()]
    assert min(np.abs(a - b).max() for i, a in enumerate(flat) for b in flat[:i]) > 10


@pytest.fixture(scope="module")
def controlled(model):
    """A generator with a text-to-image model and a ControlNet, which shows it noise."""
    unet = UNet(dataclasses.replace(UNET, in_channels=4))
    params = redraw(jax.jit(initial_params, static_argnums=0)(unet, jax.random.key(0)), 0)
    model = model.replace(unet=unet, unet_params=params)
    network = ControlNet(ControlNetConfig(unet.config, (8, 8)))
    condition = np.random.default_rng(0).random((*SIZE, 3), np.float32)
    arguments = (np.zeros((1, 8, 16, 4)), np.zeros(1), np.zeros((1, 1, 24)), condition[None])
    control = redraw(jax.jit(network.init)(jax.random.key(0), *arguments)["params"], 1)
    return Generator(model, DDIM(model.schedule, 2), SIZE, controls=(Control(network, control, condition),))


@pytest.mark.slow
def test_a_text_to_image_model_and_its_controlnet(controlled):
    (picture,) = pictures(dataclasses.replace(controlled, controls=()), WISHES[1:2]).values()
    (control,) = controlled.controls
    for scale, least, most in ((0.0, 0, 1), (1.0, 10, 255)):
        steered = dataclasses.replace(controlled, controls=(dataclasses.replace(control, scale=scale),))
        (got,) = pictures(steered, WISHES[1:2]).values()
        assert least <= np.abs(got - picture).max() <= most


@pytest.mark.slow
def test_a_controlnet_with_a_bias_moves_pictures_of_hands_alone(model, caplog):
    unet = dataclasses.replace(UNET, in_channels=4)
    condition = np.random.default_rng(0).random((*SIZE, 3), np.float32)
    network = ControlNet(ControlNetConfig(unet, (8, 8)))
    params = redraw(jax.jit(lambda: initial_controlnet(network, jax.random.key(0)))(), 1)
    wishes = [Wish("a fist", seed=1), Wish("a tree", seed=1)]

    def paint(alpha):
        biased = ControlNet(dataclasses.replace(network.config, hand_alpha=alpha))
        controls = (Control(biased, params, condition),)
        return pictures(Generator(model, DDIM(model.schedule, 2), SIZE, 5.0, batch=2, controls=controls), wishes)

    plain = paint(0.0)
    assert not caplog.records
    biased = paint(8.0)
    assert np.abs(plain[wishes[0]] - biased[wishes[0]]).max() > 3
    np.testing.assert_allclose(plain[wishes[1]], biased[wishes[1]], atol=1)
    (said,) = caplog.records
    assert said.getMessage() == f"prompts without a word on hands (by {told_by()}), which get no bias: 1, as 'a tree'"


@pytest.mark.slow
@pytest.mark.parametrize("guess", [False, True])
def test_every_wish_can_have_its_own_condition(controlled, guess):
    """Also where longer prompts come last and the last batch is filled up."""
    control = dataclasses.replace(controlled.controls[0], guess=guess)
    conditions = np.random.default_rng(1).random((4, *SIZE, 3), np.float32)
    together = dataclasses.replace(controlled, batch=2, controls=(control,))
    got = {wish: image.astype(int) for wish, image, _ in together.steered(WISHES, [conditions])}
    for wish, condition in list(zip(WISHES, conditions, strict=True))[1:]:
        alone = dataclasses.replace(controlled, controls=(dataclasses.replace(control, picture=condition),))
        (picture,) = pictures(alone, [wish]).values()
        np.testing.assert_allclose(got[wish], picture, atol=2)
    assert np.abs(got[WISHES[1]] - got[WISHES[3]]).max() > 10


def test_other_kinds_of_model_are_refused(model):
    other = model.replace(unet=UNet(dataclasses.replace(UNET, in_channels=8)))
    with pytest.raises(WeightsError, match="8 channels; give a text-to-image model, whose takes 4, or an inpainting"):
        Generator(other, DDIM(model.schedule), SIZE)
