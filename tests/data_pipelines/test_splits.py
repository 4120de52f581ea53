from data_pipelines.splits import draw_names, drop_empty, estimate_name, picture_of, split_names

NAMES = [f"photo-{number}.jpg" for number in range(2000)]


def test_share_is_held_out_and_nothing_lost():
    splits = split_names(NAMES, 0.1)
    assert 150 < len(splits["eval"]) < 250
    assert sorted(splits["train"] + splits["eval"]) == sorted(NAMES)


def test_a_photo_stays_on_its_side_when_others_come():
    few, many = split_names(NAMES[:500], 0.1), split_names(NAMES, 0.1)
    assert set(few["eval"]) <= set(many["eval"]) and set(few["train"]) <= set(many["train"])


def test_a_picture_and_what_led_to_it_are_on_one_side():
    estimates = [estimate_name(name, timestep) for name in NAMES[:300] for timestep in (150.4, 650.0)]
    assert estimates[:2] == ["photo-0-t150.jpg", "photo-0-t650.jpg"]
    splits = split_names(NAMES[:300] + estimates, 0.1)
    assert splits["eval"][: len(splits["eval"]) // 3] == split_names(NAMES[:300], 0.1)["eval"]
    held_out = {picture_of(name) for name in splits["eval"]}
    assert len(splits["eval"]) == 3 * len(held_out) and held_out.isdisjoint(map(picture_of, splits["train"]))
    for name in ("a-t1/b.png", "a-t1b.png", "a-t.png"):
        assert picture_of(name) == name


def test_small_sets_still_hold_something_out():
    assert [len(part) for part in split_names(NAMES[:3], 0.001).values()] == [2, 1]
    assert split_names(NAMES[:3], 0.0) == {"train": NAMES[:3]}
    assert split_names(NAMES[:1], 0.001) == {"train": NAMES[:1]}


def test_empty_splits_are_dropped_and_others_lose_nothing():
    kept = drop_empty({"train": iter([1, 2, 3]), "eval": iter([])})
    assert {split: list(items) for split, items in kept.items()} == {"train": [1, 2, 3]}


def test_a_draw_depends_on_its_seed_alone():
    drawn = draw_names(NAMES, 200, seed=5)
    assert len(set(drawn)) == 200 and set(drawn) < set(NAMES)
    assert drawn == sorted(drawn, key=NAMES.index)
    assert set(draw_names(NAMES[::-1], 200, seed=5)) == set(drawn)
    assert len(set(drawn) & set(draw_names(NAMES, 200, seed=6))) < 60
    assert draw_names(NAMES[:3], 5, seed=5) == NAMES[:3]


def test_a_draw_is_even_and_changes_little_when_names_do():
    drawn = draw_names(NAMES, 500, seed=0)
    assert 200 < sum(NAMES.index(name) < 1000 for name in drawn) < 300
    assert set(draw_names(NAMES, 100, seed=0)) < set(drawn)
    kept = [name for name in NAMES if name != drawn[0]]
    assert set(drawn) - set(draw_names(kept, 500, seed=0)) == {drawn[0]}
