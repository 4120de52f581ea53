"""The slider's exported adapter in diffusers: the UNet's prediction changes as ours does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.adapters.lora import lora_applied
from handjax.diffusion.model import save_stable_diffusion
from handjax.diffusion.unet import UNet
from handjax.tasks.slider import FILES, SliderTask
from tests.diffusion.sd_tiny import second_generation
from tests.parity.sd_models import torch

TOLERANCE = 1e-4
"""Of the change, relative to its largest value: float32 and the order of sums."""


@pytest.mark.parametrize("naming", ["peft", pytest.param("kohya", marks=pytest.mark.slow)])
def test_the_exported_adapter_changes_the_prediction_in_diffusers_as_here(naming, tmp_path):
    pytest.importorskip("peft")
    from diffusers import StableDiffusionPipeline

    model = second_generation()
    model = model.replace(unet_params=jax.tree.map(lambda leaf: np.float32(0.2 * leaf), model.unet_params))
    task = SliderTask(model, 16, rank=4, alpha=1.0, strength=4.0, steps=5, guidance_scale=3.0)
    start, _ = task.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.float32(leaf + 0.3 * rng.normal(size=leaf.shape)), start)
    task.exports["lora"](params, {}, tmp_path / "lora", np.dtype(np.float32))
    save_stable_diffusion(model, tmp_path / "model", np.float32)

    z, context = rng.normal(size=(1, 8, 8, 4)).astype(np.float32), rng.normal(size=(1, 5, 24)).astype(np.float32)

    inputs = jnp.asarray(z), jnp.array([321.0]), jnp.asarray(context)

    @jax.jit
    def both():
        with lora_applied(task.adapter(params), network=UNet):
            adapted = model.predict(*inputs)
        return model.predict(*inputs), adapted

    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "model")
    sample = [torch.from_numpy(z.transpose(0, 3, 1, 2)), 321, torch.from_numpy(context)]
    with torch.no_grad():
        before = pipeline.unet(*sample).sample.numpy()
        pipeline.load_lora_weights(tmp_path / "lora", weight_name=FILES[naming])
        after = pipeline.unet(*sample).sample.numpy()
    plain, adapted = (np.asarray(value).transpose(0, 3, 1, 2) for value in both())
    change = after - before
    assert np.abs(change).max() > 0.1 * np.abs(before).max()
    np.testing.assert_allclose(adapted - plain, change, atol=TOLERANCE * np.abs(change).max())
