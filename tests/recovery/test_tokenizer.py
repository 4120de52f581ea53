"""A tokenizer's folder: what was written comes back, and what does not fit is refused in a line."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.errors import WeightsError
from handjax.recovery.tokenizer import Tokenizer, load_tokenizer, save_tokenizer
from handjax.recovery.vq_mano import VQMano


@pytest.fixture(scope="module")
def tokenizer():
    network = VQMano(tokens=16, width=8, blocks=1, dim=4)
    params = network.init(jax.random.key(0), jnp.zeros((1, 16, 3, 3)))["params"]
    return Tokenizer(network, params, jax.random.normal(jax.random.key(1), (12, 4)), "open_hand")


def test_a_tokenizer_comes_back_as_it_was_written(tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path)
    again = load_tokenizer(tmp_path)
    assert (again.network, again.hand) == (tokenizer.network, "open_hand")
    jax.tree.map(np.testing.assert_array_equal, again.arrays, tokenizer.arrays)


def test_half_precision_halves_the_file_and_is_read_as_float32(tokenizer, tmp_path):
    for folder, dtype in (("whole", np.float32), ("half", np.float16)):
        save_tokenizer(tokenizer, tmp_path / folder, dtype)
    sizes = [(tmp_path / folder / "vq_mano.safetensors").stat().st_size for folder in ("whole", "half")]
    assert sizes[1] < 0.7 * sizes[0]
    again = load_tokenizer(tmp_path / "half")
    assert again.codebook.dtype == jnp.float32
    np.testing.assert_allclose(again.codebook, tokenizer.codebook, rtol=1e-3)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("codes", 13, "1 tensors do not fit config.json, as codebook"),
        ("blocks", 2, "tensors do not fit config.json, as decoder"),
        ("codes", "many", "config.json: not the configuration of a tokenizer"),
        ("colour", 3, "config.json: not the configuration of a tokenizer"),
    ],
)
def test_a_folder_whose_parts_do_not_fit_is_refused(tokenizer, tmp_path, field, value, message):
    save_tokenizer(tokenizer, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {field: value}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=message):
        load_tokenizer(tmp_path)


def test_missing_and_damaged_files_are_refused(tokenizer, tmp_path):
    with pytest.raises(WeightsError, match="no config.json"):
        load_tokenizer(tmp_path)
    save_tokenizer(tokenizer, tmp_path)
    path = tmp_path / "vq_mano.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="vq_mano.safetensors"):
        load_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="not the configuration of a tokenizer"):
        load_tokenizer(tmp_path)
