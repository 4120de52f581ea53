"""LoRA files in every naming."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from handjax.errors import WeightsError
from handjax.weights.lora import LoRAFactors, read_lora, write_lora

QUERY = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
OUT = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"
CONV = "mid_block.resnets.1.conv1"
TIME = "time_embedding.linear_1"
TEXT = "encoder.layers.0.self_attn.q_proj"
FC = "encoder.layers.0.mlp.fc1"
MODULES = {"unet": [QUERY, OUT, CONV, TIME], "text_encoder": [TEXT, FC]}


def draw(rank, alpha, dtype=np.float32, conv=False, seed=0):
    rng = np.random.default_rng(seed)
    tail, one = ((3, 3), (1, 1)) if conv else ((), ())
    down, up = rng.standard_normal((rank, 6, *tail)), rng.standard_normal((8, rank, *one))
    return LoRAFactors(down.astype(dtype), up.astype(dtype), alpha)


def factors(dtype=np.float32):
    return {
        "unet": {
            QUERY: draw(4, 4.0, dtype),
            OUT: draw(4, 2.0, dtype, seed=1),
            CONV: draw(2, 0.5, dtype, conv=True),
            TIME: draw(1, 1.0, dtype),
        },
        "text_encoder": {TEXT: draw(3, 8.0, dtype, seed=2), FC: draw(3, 8.0, dtype, seed=3)},
    }


def assert_same(given, wanted):
    assert {part: set(modules) for part, modules in given.items()} == {p: set(m) for p, m in wanted.items()}
    for part, modules in wanted.items():
        for name, (down, up, alpha) in modules.items():
            got = given[part][name]
            assert got.alpha == alpha
            assert (got.down.dtype, got.down.tobytes()) == (down.dtype, down.tobytes())
            assert (got.up.shape, got.up.tobytes()) == (up.shape, up.tobytes())


@pytest.mark.parametrize("naming", ["peft", "kohya"])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_round_trip_is_bit_exact(tmp_path, naming, dtype):
    path = tmp_path / "x.safetensors"
    write_lora(path, factors(dtype), naming)
    assert_same(read_lora(path, MODULES), factors(dtype))


def test_keys_are_those_that_trainers_write(tmp_path):
    write_lora(tmp_path / "peft.safetensors", factors(), "peft")
    write_lora(tmp_path / "kohya.safetensors", factors(), "kohya")
    peft, kohya = (set(load_file(tmp_path / f"{name}.safetensors")) for name in ("peft", "kohya"))
    assert f"unet.{OUT}.lora_A.weight" in peft
    assert f"text_encoder.text_model.{TEXT}.lora_B.weight" in peft
    base = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0"
    assert {f"{base}.lora_down.weight", f"{base}.lora_up.weight", f"{base}.alpha"} <= kohya
    assert "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight" in kohya
    assert (len(peft), len(kohya)) == (12, 18)


@pytest.mark.parametrize(
    ("key", "part", "module"),
    [
        (f"unet.{OUT}.lora.{{}}.weight", "unet", OUT),
        (f"unet.{QUERY.removesuffix('.to_q')}.processor.to_q_lora.{{}}.weight", "unet", QUERY),
        (f"{OUT.removesuffix('.to_out.0')}.processor.to_out_lora.{{}}.weight", "unet", OUT),
        (f"text_encoder.text_model.{TEXT}.lora_linear_layer.{{}}.weight", "text_encoder", TEXT),
        ("text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora.{}.weight", "text_encoder", TEXT),
        (f"base_model.model.{FC}.lora.{{}}.weight", "text_encoder", FC),
    ],
)
def test_older_namings(tmp_path, key, part, module):
    wanted = draw(4, 4.0)
    save_file({key.format("down"): wanted.down, key.format("up"): wanted.up}, tmp_path / "x.safetensors")
    assert_same(read_lora(tmp_path / "x.safetensors", MODULES), {part: {module: wanted}})


def test_alpha_of_pefts_settings(tmp_path):
    """A pattern is a regular expression for the end of the name; where none fits, the common alpha holds."""
    settings = {"unet.lora_alpha": 16, "unet.alpha_pattern": {"attn1.to_out.0": 2}}
    tensors = {
        f"unet.{name}.lora_{letter}.weight": np.ones(shape, np.float32)
        for name in (QUERY, OUT)
        for letter, shape in (("A", (4, 6)), ("B", (8, 4)))
    }
    metadata = {"lora_adapter_metadata": json.dumps(settings)}
    save_file(tensors, tmp_path / "x.safetensors", metadata)
    read = read_lora(tmp_path / "x.safetensors", MODULES)["unet"]
    assert (read[QUERY].alpha, read[OUT].alpha) == (16.0, 2.0)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("{", "metadata lora_adapter_metadata cannot be read"),
        ("[1]", "metadata lora_adapter_metadata cannot be read"),
        ('{"unet.lora_alpha": "much"}', "no number"),
        ('{"unet.alpha_pattern": {"(": 2}}', "no number"),
        ('{"unet.alpha_pattern": [2]}', "no number"),
    ],
)
def test_damaged_metadata_is_one_line(tmp_path, metadata, message):
    write_lora(tmp_path / "x.safetensors", factors())
    tensors = load_file(tmp_path / "x.safetensors")
    save_file(tensors, tmp_path / "x.safetensors", {"lora_adapter_metadata": metadata})
    with pytest.raises(WeightsError, match=message) as error:
        read_lora(tmp_path / "x.safetensors", MODULES)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.pop("lora_unet_mid_block_resnets_1_conv1.lora_up.weight"), "conv1: its up factor is missing"),
        (lambda t: t.update({"lora_unet_other.lora_up.weight": np.ones(1)}), "1 keys fit no module of this model"),
        (lambda t: t.update({"lora_unet_time_embedding_linear_1.hada_w1_a": np.ones(1)}), "LoHa"),
        (
            lambda t: t.update({"lora_unet_time_embedding_linear_1.lora_up.weight": np.ones((8, 5))}),
            r"linear_1: factors of shapes \(1, 6\) and \(8, 5\) do not fit",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, damage, message):
    path = tmp_path / "x.safetensors"
    write_lora(path, factors(), "kohya")
    tensors = load_file(path)
    damage(tensors)
    save_file(tensors, path)
    with pytest.raises(WeightsError, match=message) as error:
        read_lora(path, MODULES)
    assert "\n" not in str(error.value)
