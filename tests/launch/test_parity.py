"""The comparison with PyTorch as a user runs it, at tiny size."""

import json
import sys

import numpy as np
import pytest

from handjax.errors import BackendError, ConfigError
from launch import parity, peers

pytest.importorskip("torch")


@pytest.fixture
def call(monkeypatch):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["launch.parity", "--size", "tiny", *map(str, words)])
        return parity.main()

    return run


def plant(monkeypatch, *path):
    """Perturbs one number of one weight on our side."""
    variables_of = peers.flax_variables

    def perturbed(network):
        variables = variables_of(network)
        leaf = variables["params"]
        for name in path[:-1]:
            leaf = leaf[name]
        leaf[path[-1]] = np.array(leaf[path[-1]])
        leaf[path[-1]].flat[0] += 0.1
        return variables

    monkeypatch.setattr(parity, "flax_variables", perturbed)


@pytest.mark.slow
def test_all_parts_agree(call, tmp_path, capsys):
    assert call("--json", "--out", tmp_path / "parity.json") == 0
    items = json.loads(capsys.readouterr().out)["items"]
    assert [item["part"] for item in items] == list(peers.TINY)
    assert all(item["ok"] and item["relative"] < 2e-5 for item in items)
    document = json.loads((tmp_path / "parity.json").read_text())
    assert document["items"] == items
    assert {"torch", "diffusers", "transformers", "jax"} <= document["versions"].keys()


@pytest.mark.parametrize(
    ("part", "path", "block"),
    [
        pytest.param(
            "vae_decoder",
            ("decoder", "up_blocks_1", "resnets_2", "norm2", "scale"),
            "decoder.up_blocks.1.resnets.2",
            marks=pytest.mark.slow,
        ),
        ("text_encoder", ("encoder", "layers_1", "mlp", "fc1", "bias"), "encoder.layers.1"),
        ("controlnet", ("controlnet_down_blocks_3", "kernel"), "controlnet_down_blocks.3"),
        pytest.param(
            "unet",
            ("up_blocks_1", "attentions_0", "transformer_blocks_0", "attn2", "to_k", "kernel"),
            "up_blocks.1.attentions.0",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_planted_fault_is_named(part, path, block, call, monkeypatch, capsys):
    plant(monkeypatch, *path)
    assert call("--parts", part) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith(part) and lines[1].endswith(f"off, first at {block}")
    assert any(line.split()[0] == block for line in lines[2:])


def test_an_output_that_hardly_varies_is_not_ok(call, monkeypatch, capsys):
    monkeypatch.setattr(parity, "redraw", lambda network: network.eval())
    assert call("--parts", "controlnet") == 1
    assert "the output hardly varies" in capsys.readouterr().out


def test_blocks_are_listed_on_demand(call, capsys):
    assert call("--parts", "text_encoder", "--blocks", "--json") == 0
    (item,) = json.loads(capsys.readouterr().out)["items"]
    blocks = [block["block"] for block in item["blocks"]]
    assert blocks == ["embeddings", *(f"encoder.layers.{i}" for i in range(3)), "final_layer_norm"]


def test_unknown_part_is_refused(call):
    with pytest.raises(ConfigError, match="no part 'nose'; choose of unet"):
        call("--parts", "unet,nose")


def test_missing_torch_is_one_line(call, monkeypatch):
    peers.load_torch.cache_clear()
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BackendError, match="pip install"):
        call()
