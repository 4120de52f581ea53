"""Names and layouts of PyTorch and Flax."""

import ml_dtypes
import numpy as np
import pytest

from handjax.errors import WeightsError
from handjax.weights.names import check_tree, flax_path, to_flax, to_torch, torch_name

NAMES = [
    ("conv_in.weight", 4, "conv_in/kernel"),
    ("time_embedding.linear_1.weight", 2, "time_embedding/linear_1/kernel"),
    ("down_blocks.10.attentions.0.norm.weight", 1, "down_blocks_10/attentions_0/norm/scale"),
    ("up_blocks.1.transformer_blocks.0.attn1.to_out.0.bias", 1, "up_blocks_1/transformer_blocks_0/attn1/to_out_0/bias"),
    ("ff.net.0.proj.weight", 2, "ff/net_0/proj/kernel"),
    ("ff.net.2.weight", 2, "ff/net_2/kernel"),
    ("embeddings.token_embedding.weight", 2, "embeddings/token_embedding/embedding"),
]


@pytest.mark.parametrize(("name", "ndim", "path"), NAMES)
def test_both_ways(name, ndim, path):
    assert "/".join(flax_path(name, ndim)) == path
    assert torch_name(tuple(path.split("/"))) == name


def test_old_attention_names():
    assert flax_path("attentions.0.proj_attn.weight", 2) == ("attentions_0", "to_out_0", "kernel")
    assert flax_path("attentions.0.query.bias", 1) == ("attentions_0", "to_q", "bias")


def test_layouts():
    conv, linear = np.arange(2 * 3 * 5 * 7).reshape(2, 3, 5, 7), np.arange(6).reshape(2, 3)
    tree = to_flax([("a.weight", conv), ("b.weight", linear), ("c.position_ids", linear)])
    assert set(tree) == {"a", "b"}
    assert tree["a"]["kernel"].shape == (5, 7, 3, 2)
    assert tree["a"]["kernel"][4, 6, 2, 1] == conv[1, 2, 4, 6]
    assert tree["b"]["kernel"][2, 1] == linear[1, 2]


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_round_trip_is_bit_exact(dtype):
    rng = np.random.default_rng(0)
    shapes = {"a.0.weight": (4, 3, 3, 3), "a.0.bias": (4,), "b.weight": (5, 4), "n.weight": (4,)}
    state = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    back = to_torch(to_flax(state.items()))
    assert back.keys() == state.keys()
    for name, value in state.items():
        assert back[name].dtype == dtype
        assert back[name].tobytes() == value.tobytes()


def test_mismatch_names_the_first_of_each_kind():
    expected = to_flax([("a.weight", np.zeros((2, 3))), ("b.weight", np.zeros((2, 3))), ("c.bias", np.zeros(4))])
    given = to_flax([("a.weight", np.zeros((2, 5))), ("d.bias", np.zeros(4)), ("e.bias", np.zeros(4))])
    with pytest.raises(WeightsError) as error:
        check_tree(given, expected, "unet.safetensors")
    message = str(error.value)
    assert "unet.safetensors" in message and "\n" not in message
    assert "2 missing, first b.weight" in message
    assert "2 unexpected, first d.bias" in message
    assert "1 of another shape, first a.weight (2, 5) for (2, 3)" in message
    check_tree(expected, expected, "itself")
