import numpy as np
import pytest

from handjax.anatomy.head import NOT_COUNTED, HandHead, initial_params
from handjax.record import HandRecord
from launch.assets import anatomy_head


def test_a_temperature_is_found_that_makes_probabilities_frequencies():
    """Labels are drawn from the softmax of logits; what is 2.5 times as sure is to be cooled by that."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 5))
    likely = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = (likely.cumsum(axis=1) > rng.random((len(likely), 1))).argmax(axis=1)
    assert anatomy_head.temperature(2.5 * logits, truth) == pytest.approx(2.5, rel=0.03)


def test_sessions_of_photographs_stay_together():
    photos = [_record(f"p{n}", f"5/IMG_{1000 + n}.JPG", "Apache-2.0") for n in range(4000)]
    rendered = [_record(f"r{n}", "malformed:0", "CC0-1.0") for n in range(4000)]
    sides = anatomy_head.split_records([*photos, *rendered])
    sessions = {
        side: {record.source[:-6] for record in records if record.id[0] == "p"} for side, records in sides.items()
    }
    assert sessions["eval"] and not sessions["train"] & sessions["eval"]
    held_out = sum(record.id[0] == "r" for record in sides["eval"])
    assert 340 < held_out < 460 and len(sides["train"]) + len(sides["eval"]) == 8000


def _record(name, source, licence):
    return HandRecord(id=name, image=b"", source=source, licence=licence)


@pytest.mark.slow
def test_the_threshold_leaves_few_normal_hands_above_it(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    kinds, truth = rng.normal(0, 1, (4000, 5)), rng.integers(0, 5, 4000)
    kinds[truth == 0, 0] += 3
    counts = rng.normal(0, 1, (4000, 6)), rng.integers(NOT_COUNTED, 6, 4000)
    monkeypatch.setattr(anatomy_head, "_validate", lambda params, folder: (folder * kinds, truth, *counts))
    anatomy_head.export(initial_params(), [1.0], [0.9], tmp_path)
    head = HandHead.load(tmp_path / "head.safetensors")
    logits = kinds[truth == 0] / float(head.weights.temperature[0])
    malformed = 1 - np.exp(logits[:, 0]) / np.exp(logits).sum(axis=1)
    assert (malformed >= head.threshold).mean() == pytest.approx(anatomy_head.FALSE_ALARMS, abs=1e-3)
