"""How arrays are cut, against what was worked out by hand for names and shapes of Stable Diffusion."""

import pytest
from jax.sharding import PartitionSpec as P

from handjax.errors import ConfigError
from handjax.training.sharding import mesh_sizes, partition_spec

BLOCK = "down_blocks_0/attentions_0/transformer_blocks_0"
SIZES = {"data": 2, "fsdp": 4, "model": 2}


@pytest.mark.parametrize(
    ("path", "shape", "expected"),
    [
        # attention: into heads by outputs, back by inputs
        (f"{BLOCK}/attn1/to_q/kernel", (320, 320), P("fsdp", "model")),
        (f"{BLOCK}/attn2/to_k/kernel", (768, 320), P("fsdp", "model")),
        (f"{BLOCK}/attn2/to_out_0/kernel", (320, 320), P("model", "fsdp")),
        ("encoder/layers_3/self_attn/v_proj/kernel", (768, 768), P("fsdp", "model")),
        ("encoder/layers_3/self_attn/out_proj/kernel", (768, 768), P("model", "fsdp")),
        # MLP likewise
        (f"{BLOCK}/ff/net_0/proj/kernel", (320, 2560), P("fsdp", "model")),
        (f"{BLOCK}/ff/net_2/kernel", (1280, 320), P("model", "fsdp")),
        ("encoder/layers_3/mlp/fc1/kernel", (768, 3072), P("fsdp", "model")),
        ("encoder/layers_3/mlp/fc2/kernel", (3072, 768), P("model", "fsdp")),
        # all else by its largest dimension that divides
        ("mid_block/resnets_0/conv1/kernel", (3, 3, 2560, 1280), P(None, None, "fsdp", None)),
        ("mid_block/resnets_0/conv1/kernel", (3, 3, 1281, 640), P(None, None, None, "fsdp")),
        ("embeddings/token_embedding/embedding", (49409, 768), P(None, "fsdp")),
        ("odd", (333, 333), P(None, None)),
        # small arrays stay whole, at 2^16 elements they are cut
        ("mid_block/resnets_0/norm1/scale", (1280,), P()),
        ("conv_in/kernel", (3, 3, 9, 320), P()),
        ("square", (255, 256), P()),
        ("square", (256, 256), P("fsdp", None)),
        # a name that only resembles a rule's
        (f"{BLOCK}/my_to_q/kernel", (320, 320), P("fsdp", None)),
        (f"{BLOCK}/to_q/kernel/more", (320, 320), P("fsdp", None)),
    ],
)
def test_parameters_of_stable_diffusion(path, shape, expected):
    assert partition_spec(path, shape, SIZES) == expected


def test_moments_and_averages_are_cut_as_the_parameter():
    name = f"{BLOCK}/attn1/to_out_0/kernel"
    for prefix in ("", "params/", "ema/", "opt_state/1/0/mu/", "opt_state/1/0/nu/"):
        assert partition_spec(prefix + name, (320, 320), SIZES) == P("model", "fsdp")


def test_axes_of_one_device_cut_nothing_and_rules_can_be_given():
    one = {"data": 8, "fsdp": 1, "model": 1}
    assert partition_spec("to_q/kernel", (320, 320), one) == P(None, None)
    assert partition_spec("to_q/kernel", (320, 321), SIZES) == P("fsdp", None)
    assert partition_spec("mix/kernel", (512, 512), SIZES, [("mix/kernel", 0)]) == P("model", "fsdp")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [((-1, 1, 1), (8, 1, 1)), ((-1, 2, 2), (2, 2, 2)), ((4, 2, 1), (4, 2, 1)), ((1, -1, 2), (1, 4, 2))],
)
def test_mesh_sizes(asked, expected):
    names = ("data", "fsdp", "model")
    assert mesh_sizes(dict(zip(names, asked, strict=True)), 8) == dict(zip(names, expected, strict=True))


@pytest.mark.parametrize(
    "asked", [(-1, 3, 1), (-1, -1, 1), (2, 2, 1), (16, 1, 1), (-1, 0, 1), (-2, 2, -2), (-8, 1, -1)]
)
def test_a_mesh_that_does_not_fit_is_told(asked):
    with pytest.raises(ConfigError, match=f"parallel.data={asked[0]}, .* does not fit 8 devices"):
        mesh_sizes(dict(zip(("data", "fsdp", "model"), asked, strict=True)), 8)
