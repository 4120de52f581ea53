"""Feature maps written down from records, and read in batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from data_pipelines.encoding import jpeg
from data_pipelines.hand_maps import BATCH, label, make_loader, write_maps
from handjax.anatomy.head import MAPS, NOT_COUNTED, HeadNetwork
from handjax.errors import InputError
from handjax.record import HandRecord
from handjax.tasks.anatomy_head import AnatomyHeadTask

TASK = AnatomyHeadTask(HeadNetwork(), smoothing=0.1, count_weight=0.5)


def _record(number, edit, fingers):
    rng = np.random.default_rng(number)
    image = np.kron(rng.integers(0, 255, (8, 8, 3)), np.ones((12, 12, 1))).astype(np.uint8)
    points = np.concatenate([rng.uniform(20, 76, (21, 2)), np.ones((21, 1))], axis=1)
    return HandRecord(
        id=str(number), image=jpeg(image), keypoints_2d=points.astype(np.float32), edit=edit, fingers=fingers
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    records = [_record(n, *((("none", 5), ("extra_finger", 6), ("zigzag", None))[n % 3])) for n in range(BATCH + 3)]
    path = tmp_path_factory.mktemp("maps")
    assert write_maps(records, path / "train", seed=0) == BATCH + 3
    return path


def test_labels():
    said = {("none", 5): (0, 2), ("extra_finger", 7): (1, 4), ("fused_fingers", None): (4, 5), ("backward", 2): (2, 5)}
    for (edit, fingers), numbers in said.items():
        assert label(_record(0, edit, fingers)) == numbers
    assert label(_record(0, None, None)) == (0, NOT_COUNTED)


def test_batches_are_what_the_task_asks_for_and_each_hand_has_its_own_maps(folder):
    loader = make_loader(ConfigDict({"path": str(folder)}), TASK.batch_spec(), 8, seed=0, split="train")
    batch = next(iter(loader))
    for name, spec in TASK.batch_spec().items():
        assert batch[name].shape == (8, *spec.shape) and batch[name].dtype == spec.dtype
    kinds, counts = np.load(folder / "train" / "kind.npy"), np.load(folder / "train" / "count.npy")
    assert kinds.tolist() == [(0, 1, 2)[n % 3] for n in range(BATCH + 3)]
    assert counts.tolist() == [(2, 3, 5)[n % 3] for n in range(BATCH + 3)]
    for name in MAPS:
        maps = np.load(folder / "train" / f"{name}.npy").astype(np.float32)
        assert np.abs(np.diff(maps, axis=0)).mean(axis=(1, 2, 3)).min() > 0.05


def test_a_missing_split_is_told(folder):
    with pytest.raises(InputError, match="no feature maps"):
        make_loader(ConfigDict({"path": str(folder)}), TASK.batch_spec(), 8, seed=0, split="eval")


def test_evaluation_measures_cross_entropy_and_agreement(folder):
    batch = next(iter(make_loader(ConfigDict({"path": str(folder)}), TASK.batch_spec(), 8, seed=0, split="train")))
    params, _ = TASK.init(jax.random.key(0))
    terms = TASK.evaluate(params, {}, {}, batch, None)
    kinds, _ = TASK.network.apply({"params": params}, {name: jnp.asarray(batch[name]) for name in MAPS})
    logits = np.asarray(kinds, np.float64)
    surprise = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(8), batch["kind"]]
    assert float(terms["kind"][0]) == pytest.approx(surprise.sum(), rel=1e-4) and float(terms["kind"][1]) == 8
    said = logits.argmax(axis=1)
    assert float(terms["kind_right"][0]) == (said == batch["kind"]).sum()
    assert float(terms["agreement"][0]) == ((said > 0) == (batch["kind"] > 0)).sum()


def test_fingers_that_nobody_counted_teach_nothing(folder):
    batch = next(iter(make_loader(ConfigDict({"path": str(folder)}), TASK.batch_spec(), 8, seed=0, split="train")))
    params, _ = TASK.init(jax.random.key(0))
    some = batch | {"count": np.where(np.arange(8) < 3, batch["count"], NOT_COUNTED)}
    first = {name: values[:3] for name, values in batch.items()}
    all_terms, few_terms, own_terms = (TASK.evaluate(params, {}, {}, b, None) for b in (batch, some, first))
    for name in ("count", "count_right"):
        np.testing.assert_allclose(few_terms[name], own_terms[name], rtol=1e-4)
        assert float(few_terms[name][1]) == 3 and float(all_terms[name][1]) == 8
    np.testing.assert_allclose(few_terms["kind"], all_terms["kind"], rtol=1e-6)
