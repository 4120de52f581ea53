"""A picture of no numbers is an error, and no file."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import handjax
from handjax.diffusion.samplers import DDIM
from handjax.errors import WeightsError
from handjax.inference.finite import finite_pictures, to_bytes
from handjax.inference.generate import Generator, Wish
from handjax.inference.refine import RepairSettings
from launch import refine
from tests.diffusion.sd_tiny import tiny_model
from tests.launch.test_refine import load

PHOTO = handjax.__path__[0] + "/assets/photos/nocurl.jpg"


def test_finite_pictures_are_rounded_and_cut_off():
    painted = jnp.array([-3.0, -1.0, 0.0, 1.0, 3.0]).reshape(1, 1, 5, 1) * jnp.ones(3)
    assert finite_pictures(*to_bytes(painted))[0, 0, :, 1].tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_no_number_is_enough(value):
    with pytest.raises(WeightsError, match="no numbers"):
        finite_pictures(*jax.jit(to_bytes)(jnp.zeros((2, 4, 4, 3)).at[1, 2, 3, 0].set(value)))


def broken(params):
    """The same weights, of which one is no number."""
    leaves, structure = jax.tree.flatten(params)
    leaves[0] = jnp.asarray(leaves[0]).at[(0,) * leaves[0].ndim].set(jnp.nan)
    return jax.tree.unflatten(structure, leaves)


@pytest.mark.slow
def test_generated_pictures_are_checked():
    model = tiny_model()
    model = model.replace(unet_params=broken(model.unet_params))
    with pytest.raises(WeightsError, match="no numbers"):
        next(Generator(model, DDIM(model.schedule, 2), (16, 32))([Wish("a fist")]))


@pytest.mark.slow
def test_repairs_are_checked_and_nothing_is_written(monkeypatch, tmp_path, capsys):
    refiner = load()
    settings = RepairSettings(steps=1, candidates=1)
    broken_refiner = dataclasses.replace(refiner, adapter_params=broken(refiner.adapter_params), settings=settings)
    monkeypatch.setattr(refine, "load_refiner", lambda *arguments: broken_refiner)
    monkeypatch.setattr(sys, "argv", ["refine", PHOTO, "--out", str(tmp_path / "out")])
    assert refine.main() == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: the model paints values that are no numbers")
    assert not (tmp_path / "out").exists()
