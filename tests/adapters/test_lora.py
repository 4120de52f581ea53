import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from handjax.adapters.lora import LowRank, lora_applied, merge, to_factors, to_lora
from handjax.diffusion.configs import UNetConfig
from handjax.diffusion.unet import UNet
from handjax.errors import WeightsError
from handjax.weights.lora import LoRAFactors

UNET = UNet(
    UNetConfig(
        in_channels=4,
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=6,
        norm_num_groups=4,
    )
)
INPUTS = (
    jax.random.normal(jax.random.key(0), (1, 8, 8, 4)),
    jnp.array([500.0]),
    jax.random.normal(jax.random.key(1), (1, 3, 6)),
)
# a linear layer, a 1x1, a 3x3 and a strided convolution
LAYERS = {
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k": (8, 6),
    "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0": (16, 16),
    "down_blocks.0.attentions.0.proj_in": (8, 8, 1, 1),
    "up_blocks.1.resnets.0.conv1": (8, 24, 3, 3),
    "down_blocks.0.downsamplers.0.conv": (8, 8, 3, 3),
}
RANK = 2


def factors(seed):
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.normal(scale=0.5, size=shape).astype(np.float32)

    return {
        name: LoRAFactors(draw(RANK, *shape[1:]), draw(shape[0], RANK, *(1 for _ in shape[2:])), 3.0)
        for name, shape in LAYERS.items()
    }


@pytest.fixture(scope="module")
def params():
    return jax.jit(UNET.init)(jax.random.key(2), *INPUTS)["params"]


@jax.jit
def plain(params):
    return UNET.apply({"params": params}, *INPUTS)


@jax.jit
def adapted(params, first, second):
    with lora_applied(first, second):
        return UNET.apply({"params": params}, *INPUTS)


def as_arrays(lora):
    """Factors as arguments of a jitted function; the paths are dictionary keys."""
    return jax.tree.map(jnp.asarray, lora)


def test_applied_equals_merged_and_differs_from_plain(params):
    loras = [as_arrays(to_lora(factors(seed), weight)) for seed, weight in ((0, 0.8), (1, -0.5))]
    got = adapted(params, *loras)
    np.testing.assert_allclose(got, plain(merge(params, loras)), atol=1e-5)
    assert np.abs(got - plain(params)).max() > 0.05


def test_merged_weights_are_those_of_the_formula(params):
    merged = traverse_util.flatten_dict(merge(params, [to_lora(factors(0), 0.8)]))
    before = traverse_util.flatten_dict(params)
    down, up, alpha = factors(0)["up_blocks.1.resnets.0.conv1"]
    update = 0.8 * alpha / RANK * np.einsum("orab,rikl->oikl", np.float64(up), np.float64(down))
    path = ("up_blocks_1", "resnets_0", "conv1", "kernel")
    np.testing.assert_allclose(merged[path] - before[path], update.transpose(2, 3, 1, 0), atol=1e-5)
    assert sum(bool((merged[path] != before[path]).any()) for path in before) == len(LAYERS)


def test_unmerged_weights_are_the_first_up_to_rounding(params):
    loras = [to_lora(factors(0))]
    back = merge(merge(params, loras), loras, sign=-1.0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), back, params)


def test_gradients_reach_the_factors(params):
    lora = as_arrays(to_lora(factors(0)))
    nothing = as_arrays(to_lora({}))
    gradients = jax.jit(jax.grad(lambda lora: jnp.square(adapted(params, lora, nothing)).mean()))(lora)
    for layer in gradients.values():
        assert jnp.abs(layer.down).max() > 0 and jnp.abs(layer.up).max() > 0


def test_factors_come_back():
    for name, (down, up, alpha) in to_factors(to_lora(factors(0))).items():
        expected = factors(0)[name]
        np.testing.assert_array_equal(down, expected.down)
        np.testing.assert_array_equal(up, expected.up)
        assert alpha == pytest.approx(expected.alpha)


def test_a_lora_of_another_model_is_refused(params):
    with pytest.raises(WeightsError, match=r"layer down_blocks_7\.conv is .*none; use a LoRA of this model"):
        merge(params, [{("down_blocks_7", "conv"): LowRank(jnp.ones((3, 2)), jnp.ones((2, 3)), 1.0)}])


def test_a_layer_of_the_same_size_but_another_shape_is_refused():
    layer = {("dense",): LowRank(jnp.ones((16, 2)), jnp.ones((2, 24)), 1.0)}
    with pytest.raises(WeightsError, match=r"layer dense is \(16, 24\) and the network's \(24, 16\)"):
        merge({"dense": {"kernel": jnp.zeros((24, 16))}}, [layer])
    merged = merge({"dense": {"kernel": jnp.zeros((1, 1, 16, 24))}}, [layer])
    np.testing.assert_array_equal(merged["dense"]["kernel"], jnp.full((1, 1, 16, 24), 2.0))


def test_half_precision_factors_are_multiplied_in_float32():
    down, up = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(16, 8), (8, 24)]))
    down, up = down.astype(jnp.bfloat16), up.astype(jnp.bfloat16)
    merged = merge({"dense": {"kernel": jnp.zeros((16, 24))}}, [{("dense",): LowRank(down, up, 1.0)}])
    expected = np.asarray(down, np.float64) @ np.asarray(up, np.float64)
    np.testing.assert_allclose(merged["dense"]["kernel"], expected, atol=1e-5)
