"""CLIP against PyTorch transformers with the same random weights and its own preparation of pictures."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import handjax
from handjax.diffusion.text_model import load_text_model, save_text_model
from handjax.errors import WeightsError
from handjax.metrics.clip import SCALE, ClipScorer, prepare
from tests.parity.sd_models import redraw, torch

TOKENIZER = Path(handjax.__file__).parent / "assets/tiny_inpainting/tokenizer"
SIZE, TOKENS = 28, 16
PROMPTS = ["a photo of a left hand", "two hands " * 20, "an open hand, five fingers", "a fist"]


@pytest.fixture(scope="module")
def peer():
    from transformers import CLIPConfig, CLIPModel

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": 1798, "bos_token_id": 1796, "eos_token_id": 1797, "max_position_embeddings": TOKENS}
    vision = {"image_size": SIZE, "patch_size": 7, "hidden_act": "gelu"}
    return redraw(CLIPModel(CLIPConfig(text_config=sizes | text, vision_config=sizes | vision, projection_dim=24)))


@pytest.fixture(scope="module")
def folder(peer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    peer.save_pretrained(folder)
    for path in TOKENIZER.iterdir():
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    shapes = [(40, 60), (90, 31), (28, 28), (200, 130)]
    return [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]


def test_pictures_are_prepared_as_by_transformers(pictures):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    for picture in pictures:
        theirs = processor(picture, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
        np.testing.assert_allclose(prepare(picture, SIZE), theirs, atol=1e-6)


def test_scores_are_those_of_the_peer(peer, folder, pictures):
    scorer = ClipScorer.load(folder)
    ids = scorer.tokenizer(PROMPTS)
    images = np.stack([prepare(picture, SIZE) for picture in pictures]).transpose(0, 3, 1, 2)
    with torch.no_grad():
        out = peer(input_ids=torch.tensor(ids).long(), pixel_values=torch.tensor(images))
    cosines = (out.text_embeds * out.image_embeds).sum(-1).numpy()
    assert cosines.max() > 0.05 and np.ptp(cosines) > 0.1
    np.testing.assert_allclose(scorer(pictures, PROMPTS), np.maximum(SCALE * cosines, 0), atol=1e-3)
    assert scorer.cut(PROMPTS) == [False, True, False, False]


def test_the_text_encoder_alone_gives_the_peers_states(peer, folder, tmp_path):
    read = load_text_model(folder)
    ids = read.ids(PROMPTS[2:])
    with torch.no_grad():
        theirs = peer.text_model(input_ids=torch.tensor(ids).long()).last_hidden_state.numpy()
    assert read.words == TOKENS and theirs.std() > 0.1
    ours = jax.jit(read.network.apply)({"params": read.params}, jnp.asarray(ids))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    save_text_model(read, tmp_path)
    again = load_text_model(tmp_path)
    assert again.network == read.network and (again.ids(PROMPTS[2:]) == ids).all()
    jax.tree.map(np.testing.assert_array_equal, again.params, read.params)


def test_many_pictures_are_scored_as_single_ones(folder, pictures):
    scorer = ClipScorer.load(folder)
    together = scorer(pictures * 5, PROMPTS * 5)
    alone = np.concatenate([scorer([picture], [prompt]) for picture, prompt in zip(pictures, PROMPTS, strict=True)])
    np.testing.assert_allclose(together, np.tile(alone, 5), atol=1e-4)


def test_another_network_is_told_from_clip(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "clip")
    document = json.loads((tmp_path / "clip/config.json").read_text())
    document["vision_config"]["num_hidden_layers"] = 3
    (tmp_path / "clip/config.json").write_text(json.dumps(document))
    with pytest.raises(WeightsError, match="missing, first vision_model.encoder.layers.2"):
        ClipScorer.load(tmp_path / "clip")
    (tmp_path / "clip/config.json").unlink()
    with pytest.raises(WeightsError, match="no such file"):
        ClipScorer.load(tmp_path / "clip")
