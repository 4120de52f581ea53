"""Pairs of real and generated examples."""

import jax
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

from data_pipelines.real_generated import make_loader
from handjax.errors import InputError

SIZE = 32
SPEC = {f"{side}_image": jax.ShapeDtypeStruct((SIZE, SIZE, 3), np.float32) for side in ("real", "generated")}
WORDS = {f"{side}_ids": jax.ShapeDtypeStruct((8,), np.int32) for side in ("real", "generated")}


def loader(real, generated, batch=4, spec=SPEC, **processes):
    tokens = {"tokenizer": "tiny_inpainting/tokenizer", "max_length": 8}
    config = {"path": str(real), "generated": str(generated), "image_size": SIZE, "loader": "x", **tokens}
    return iter(make_loader(FrozenConfigDict(config), spec, batch, 0, "train", **processes))


def levels(images):
    """The grey level of each picture, which names its record."""
    return np.round((images.mean(axis=(1, 2, 3)) + 1) * 12.75).astype(int)


def test_each_side_comes_from_its_own_records(prepared, prepared_few):
    data = loader(prepared, prepared_few, batch=23)
    batch = next(data)
    assert batch.keys() == SPEC.keys()
    assert sorted(levels(batch["real_image"])) == list(range(23))
    assert set(levels(batch["generated_image"])) == {23, 24}
    turned = next(loader(prepared_few, prepared, batch=23))
    assert set(levels(turned["real_image"])) == {23, 24}


def test_captions_go_with_their_pictures_and_processes_share_batches(prepared_few):
    spec = SPEC | WORDS
    whole = loader(prepared_few, prepared_few, batch=4, spec=spec)
    parts = [loader(prepared_few, prepared_few, 4, spec, process_index=p, process_count=2) for p in range(2)]
    captions = {}
    for _ in range(4):
        batch, shares = next(whole), [next(part) for part in parts]
        for name in spec:
            np.testing.assert_array_equal(batch[name], np.concatenate([share[name] for share in shares]))
        for side in ("real", "generated"):
            for level, ids in zip(levels(batch[f"{side}_image"]), batch[f"{side}_ids"], strict=True):
                captions.setdefault(int(level), set()).add(tuple(ids))
    # a mirrored left hand's caption says right
    assert set(captions) == {23, 24} and all(len(found) <= 2 for found in captions.values())
    assert captions[23].isdisjoint(captions[24])


def test_no_generated_pictures_are_told(prepared):
    with pytest.raises(InputError, match=r"data\.generated is empty; make pictures by launch\.generate"):
        loader(prepared, " ")
