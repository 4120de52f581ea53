"""A randomly initialised Idefics3, SmolVLM's architecture, runs through the real pipeline: its answers are noise.

What a trained model would answer comes from a stand-in for the pipeline.
"""

import json

import numpy as np
import pytest

from handjax.captioning import local, prompts
from handjax.captioning.local import LocalModel
from handjax.captioning.picture import Picture
from handjax.captioning.refinement import Refinement, compose
from handjax.errors import WeightsError
from tests.captioning.chat_server import FIELDS

PICTURE = Picture(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8), "", lambda image: [])
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %}"
    "{{ c['text'] }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}assistant:"
)
SPECIAL = (
    "<unk>",
    "<s>",
    "</s>",
    "<pad>",
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
    "<end_of_utterance>",
)


def _chain(ask):
    return Refinement(prompts.captioner(ask), prompts.extractor(ask), compose, lambda picture: "plain")


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    torch = pytest.importorskip("torch")
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate([*SPECIAL, *sorted(alphabet)])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = dict(zip(("unk_token", "bos_token", "eos_token", "pad_token"), SPECIAL, strict=False))
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, additional_special_tokens=list(SPECIAL[4:]), **names
    )
    size = {"longest_edge": 32}
    images = transformers.Idefics3ImageProcessorPil(do_image_splitting=False, size=size, max_image_size=size)
    processor = transformers.Idefics3Processor(images, fast, image_seq_len=4, chat_template=TEMPLATE)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    small |= {"initializer_range": 0.5}  # or all answers are alike
    text = {"model_type": "llama", "num_key_value_heads": 2, "vocab_size": len(fast), "max_position_embeddings": 8192}
    text |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}
    config = transformers.Idefics3Config(
        vision_config=small | {"image_size": 32, "patch_size": 8},
        text_config=small | text,
        scale_factor=2,
        image_token_id=4,
        pad_token_id=3,
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny_vlm")
    transformers.Idefics3ForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_a_random_model_answers_noise_which_keeps_the_plain_caption(tiny_model, monkeypatch):
    monkeypatch.setattr(local, "MOST_TOKENS", 8)
    model = LocalModel.load(str(tiny_model))
    refined = _chain(model)(PICTURE)
    assert (refined.caption, refined.status) == ("plain", "invalid")
    assert refined.description and "Describe" not in refined.description, "the question is not part of the answer"
    assert model("question", PICTURE.image) == model("question", PICTURE.image)
    assert model("question", PICTURE.image) != model("question", 255 - PICTURE.image), "the picture is seen"


def test_the_chats_that_a_pipeline_is_given():
    chats = []

    def pipeline(text, return_full_text, generate_kwargs):
        assert not return_full_text and not generate_kwargs["do_sample"]
        chats.append(text[0]["content"])
        return [{"generated_text": "He waves." if len(chats) == 1 else f"```json\n{json.dumps(FIELDS)}\n```"}]

    refined = _chain(LocalModel(pipeline))(PICTURE)
    assert (refined.status, refined.semantics.hand_action) == ("repaired", "waving the right hand")
    assert [[part["type"] for part in chat] for chat in chats] == [["image", "text"], ["text"]]
    assert chats[0][0]["image"].size == (60, 40)


def test_a_picture_that_the_model_has_no_memory_for_keeps_its_plain_caption():
    def pipeline(**_):
        raise RuntimeError("CUDA out of memory.\nTried to allocate 2 GiB.")

    refined = _chain(LocalModel(pipeline))(PICTURE)
    assert (refined.caption, refined.status) == ("plain", "no_answer")
    assert refined.reason == "CUDA out of memory. Tried to allocate 2 GiB."


def test_a_missing_model_is_one_line(tmp_path):
    with pytest.raises(WeightsError, match="--model .*absent.* cannot be loaded") as error:
        LocalModel.load(str(tmp_path / "absent"))
    assert "\n" not in str(error.value)
