"""Prompts to hands: what is drawn, sides, pictures; on random weights."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.errors import ConfigError, InputError, WeightsError
from handjax.hand.mano import load_hand
from handjax.hand.model import load_open_hand, pose_hand
from handjax.hand.words import named_side
from handjax.inference.text_to_mesh import HandWriter, draw_hand
from handjax.recovery.decoding import TOP_SHARE
from handjax.recovery.text_files import load_text_to_mesh, save_text_to_mesh
from handjax.recovery.tokenizer import save_tokenizer
from handjax.recovery.writing import PoseWriter, TextFixed
from tests.recovery.tiny_texts import PROMPTS, random_text_model

CODES = 100  # five of them are 5 %
SIDE = 48  # of pictures, pixels


@pytest.fixture(scope="module")
def model():
    return random_text_model(CODES)


@pytest.fixture(scope="module")
def writer(model):
    return HandWriter(model, load_hand(""))


def test_tokens_are_drawn_among_the_likeliest_twentieth(model):
    writer = PoseWriter(model.network, model.tokenizer.network, model.text.network)
    fixed = TextFixed(model.tokenizer.arrays, load_open_hand(), model.text.params)
    ids = jnp.asarray(model.text.ids(PROMPTS))

    @jax.jit
    def draw(params, fixed, ids):  # in one iteration all tokens are predicted with nothing known
        _, decoded = writer.write(params, fixed, ids, jax.random.key(0), 60, iterations=1)
        return decoded.tokens, writer.predictor(params, fixed, ids)(jnp.full((len(PROMPTS), 16), CODES))

    tokens, logits = jax.device_get(draw(model.params, fixed, ids))
    assert TOP_SHARE * CODES == 5 and tokens.shape == (60, len(PROMPTS), 16)
    ranks = (logits > np.take_along_axis(logits[None], tokens[..., None], axis=-1)).sum(-1)
    assert set(np.unique(ranks)) == {0, 1, 2, 3, 4}


def test_a_left_hand_is_a_right_one_in_the_mirror(writer):
    right, left = (
        writer(f"an open {side} hand, palm to the {other}", 3) for side, other in (("right", "left"), ("left", "right"))
    )
    hand = load_open_hand("left")
    for one, other in zip(right, left, strict=True):
        assert (one.side, other.side) == ("right", "left")
        np.testing.assert_array_equal(one.vertices * np.float32([-1, 1, 1]), other.vertices)
        np.testing.assert_array_equal(one.faces[:, ::-1], other.faces)
        posed = pose_hand(hand, jnp.asarray(other.pose), jnp.zeros(10), jnp.zeros(3))
        np.testing.assert_allclose(posed.vertices, other.vertices, atol=1e-5)
        assert ((one.confidence > 0) & (one.confidence <= 1)).all() and one.log_likelihood < 0
    assert np.abs(right[0].vertices - right[1].vertices).max() > 1e-3
    again = writer("an open right hand, palm to the left", 3)
    np.testing.assert_array_equal(again[2].vertices, right[2].vertices)
    sides = {"A Right hand pointing left": "right", "a left thumb": "left", "a fist": None, "leftover, alright": None}
    assert {text: named_side(text) for text in sides} == sides


def test_a_picture_shows_the_whole_hand_on_white(writer):
    hand = writer(PROMPTS[1], 3)[0]
    picture = draw_hand(hand, SIDE)
    rows, columns = np.nonzero((picture != 255).any(axis=-1))
    assert (picture[[0, -1]] == 255).all() and (picture[:, [0, -1]] == 255).all()
    assert 37 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 44  # 85 % of 48, and perspective


def test_prompts_that_cannot_be_read_are_refused(writer):
    with pytest.raises(InputError, match="a prompt is empty"):
        writer("  ", 1)
    with pytest.raises(InputError, match=r"has 42 tokens, the text encoder reads 32; say it shorter"):
        writer("hand " * 40, 1)


def test_models_that_cannot_be_used_are_refused(model, tmp_path):
    other = model._replace(tokenizer=model.tokenizer._replace(hand="mano"))
    with pytest.raises(ConfigError, match="the model knows mano, not open_hand"):
        HandWriter(other, load_hand(""))
    with pytest.raises(ConfigError, match="is a left hand; give the right one"):
        HandWriter(model, load_open_hand("left"))
    broken = model._replace(params=jax.tree.map(lambda x: x * np.nan, model.params))
    with pytest.raises(WeightsError, match="the model's weights give no numbers"):
        HandWriter(broken, load_hand(""))(PROMPTS[0], 3)
    with pytest.raises(WeightsError, match="no such folder; give --model"):
        load_text_to_mesh(tmp_path / "nowhere")
    save_text_to_mesh(model, tmp_path / "half", np.float16)
    path = tmp_path / "half" / "config.json"
    written = path.read_text()
    for heads in (3, 0):  # of 16 channels
        path.write_text(json.dumps(json.loads(written) | {"heads": heads}))
        with pytest.raises(WeightsError, match="config.json: not the configuration of text_to_mesh.py") as refused:
            load_text_to_mesh(tmp_path / "half")
        assert "\n" not in str(refused.value)
    path.write_text(written)
    read = load_text_to_mesh(tmp_path / "half")
    kernel = np.asarray(model.params["logits"]["kernel"])
    np.testing.assert_array_equal(read.params["logits"]["kernel"], kernel.astype(np.float16).astype(np.float32))
    save_tokenizer(model.tokenizer._replace(codebook=model.tokenizer.codebook + 1), tmp_path / "half" / "tokenizer")
    with pytest.raises(WeightsError, match="not the tokenizer that text_to_mesh.safetensors was trained with"):
        load_text_to_mesh(tmp_path / "half")
