from data_pipelines.splits import drop_empty, split_names

NAMES = [f"photo-{number}.jpg" for number in range(2000)]


def test_share_is_held_out_and_nothing_lost():
    splits = split_names(NAMES, 0.1)
    assert 150 < len(splits["eval"]) < 250
    assert sorted(splits["train"] + splits["eval"]) == sorted(NAMES)


def test_a_photo_stays_on_its_side_when_others_come():
    few, many = split_names(NAMES[:500], 0.1), split_names(NAMES, 0.1)
    assert set(few["eval"]) <= set(many["eval"]) and set(few["train"]) <= set(many["train"])


def test_small_sets_still_hold_something_out():
    assert [len(part) for part in split_names(NAMES[:3], 0.001).values()] == [2, 1]
    assert split_names(NAMES[:3], 0.0) == {"train": NAMES[:3]}
    assert split_names(NAMES[:1], 0.001) == {"train": NAMES[:1]}


def test_empty_splits_are_dropped_and_others_lose_nothing():
    kept = drop_empty({"train": iter([1, 2, 3]), "eval": iter([])})
    assert {split: list(items) for split, items in kept.items()} == {"train": [1, 2, 3]}
