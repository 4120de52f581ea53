import jax
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

from data_pipelines.encoded import EncodedConfig, EncodedExamples, encoder_of, open_encoded
from data_pipelines.loader import make_loader
from handjax.errors import ConfigError, InputError
from handjax.hand.draw import draw_skeleton

SIZE = 16
MAPS = {
    "mask": jax.ShapeDtypeStruct((SIZE, SIZE, 1), np.float32),
    "depth": jax.ShapeDtypeStruct((SIZE, SIZE, 1), np.float32),
    "keypoints": jax.ShapeDtypeStruct((21, 2), np.float32),
    "keypoints_valid": jax.ShapeDtypeStruct((), np.bool_),
    "mesh": jax.ShapeDtypeStruct((SIZE, SIZE, 1), np.float32),
    "hand_tokens": jax.ShapeDtypeStruct((5,), np.float32),
    "box_side": jax.ShapeDtypeStruct((), np.float32),
    "input_ids": jax.ShapeDtypeStruct((5,), np.int32),
}
LATENTS = jax.ShapeDtypeStruct((4, 4, 4), np.float32)
SPEC = {"latents": LATENTS, "hidden_latents": LATENTS} | MAPS
COUNTS = {"train": 7, "eval": 3}


def batches(split):
    """Endless batches of four; the first example's box side says how many came before."""
    rng = np.random.default_rng(len(split))
    for number in range(100):
        yield {
            "latents": rng.normal(size=(4, 4, 4, 4)).astype(np.float32),
            "hidden_latents": rng.normal(size=(4, 4, 4, 4)).astype(np.float32),
            "mask": rng.integers(0, 2, (4, SIZE, SIZE, 1)).astype(np.float32),
            "depth": (rng.integers(0, 256, (4, SIZE, SIZE, 1)) / 255).astype(np.float32),
            "mesh": (rng.integers(0, 256, (4, SIZE, SIZE, 1)) / 255).astype(np.float32),
            "hand_tokens": rng.integers(0, 2, (4, 5)).astype(np.float32),
            "keypoints": rng.uniform(0, SIZE, (4, 21, 2)).astype(np.float32),
            "keypoints_valid": np.array([True, False, True, True]),
            "box_side": np.arange(4 * number, 4 * number + 4, dtype=np.float32),
            "input_ids": rng.integers(0, 100, (4, 5)).astype(np.int32),
        }


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoded")
    config = EncodedConfig(spec=SPEC, counts=COUNTS, encoder="abc", batches=batches)
    EncodedExamples(config=config, data_dir=str(folder), file_format="array_record").download_and_prepare()
    return folder


def test_examples_are_read_as_they_were_encoded(encoded):
    source = open_encoded(encoded, "train", SPEC)
    assert len(source) == COUNTS["train"]
    examples = sorted((source[number] for number in range(len(source))), key=lambda example: example["box_side"])
    assert [example["box_side"] for example in examples] == list(range(7))
    stream = batches("train")
    rows = [
        {name: values[i] for name, values in batch.items()} for batch in (next(stream), next(stream)) for i in range(4)
    ]
    for example, row in zip(examples, rows[:7], strict=True):
        for name, spec in SPEC.items():
            assert (example[name].shape, example[name].dtype) == (spec.shape, spec.dtype), name
            halved = 5e-4 if "latents" in name else 0  # relative error of half precision
            np.testing.assert_allclose(example[name], row[name], rtol=halved, atol=1e-6, err_msg=name)


def test_loader_batches_encoded_examples_and_draws_their_skeletons(encoded):
    config = FrozenConfigDict({"path": str(encoded), "image_size": SIZE, "encoded": True})
    skeleton = {"skeleton": jax.ShapeDtypeStruct((SIZE, SIZE, 3), np.float32)}
    wanted = {name: SPEC[name] for name in ("latents", "mask")} | skeleton
    data = iter(make_loader(config, wanted, 7, 0, "train"))
    first, second = next(data), next(data)
    assert {name: values.shape[1:] for name, values in first.items()} == {name: s.shape for name, s in wanted.items()}
    order = [np.sort(batch["latents"][:, 0, 0, 0]) for batch in (first, second)]
    np.testing.assert_array_equal(*order)  # every pass has every example
    assert (first["latents"] != second["latents"]).any()
    one = next(iter(make_loader(config, wanted | {"keypoints": MAPS["keypoints"]}, 1, 0, "eval")))
    np.testing.assert_allclose(one["skeleton"][0], draw_skeleton(one["keypoints"][0], SIZE, SIZE), atol=1e-6)


def test_the_set_names_the_weights_that_made_it(encoded, prepared):
    assert encoder_of(encoded) == "abc"
    assert encoder_of(prepared) == ""


def test_what_does_not_fit_is_refused(encoded, prepared):
    with pytest.raises(InputError, match="no field 'box_side'.*launch.encode"):
        open_encoded(prepared, "train", SPEC)
    with pytest.raises(InputError, match="no 'test' split"):
        open_encoded(encoded, "test", SPEC)
    config = FrozenConfigDict({"path": str(encoded), "image_size": 32, "encoded": True})
    with pytest.raises(ConfigError, match=r"takes latents .*\[8, 8, 4\], data gives .*\[4, 4, 4\]"):
        make_loader(config, {"latents": jax.ShapeDtypeStruct((8, 8, 4), np.float32)}, 2, 0, "train")
