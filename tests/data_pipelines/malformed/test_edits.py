from collections import Counter

import numpy as np

from data_pipelines.malformed.edits import BY_NAME, EDITS, describe, draw_edit
from data_pipelines.malformed.mesh_edits import RENDERED_EDITS
from data_pipelines.malformed.photo_edits import PHOTO_EDITS
from handjax.anatomy.head import KINDS


def test_captions_say_which_hand_it_is_and_what_is_wrong():
    said = {
        ("none", "left", (), 5): "a normal left hand with five fingers",
        ("none", "left", (), None): "a normal left hand",
        ("extra_finger", "right", (), 6): "a right hand with six fingers",
        ("missing_finger", "right", (0, 3), 3): "a right hand with three fingers, the thumb and ring finger missing",
        ("fused_fingers", "left", (2, 1), None): "a left hand whose index and middle finger are fused",
        ("backward", "right", (0,), None): "a right hand whose thumb is bent backwards",
        ("extra_joint", "right", (4,), 5): "a right hand whose little finger has one joint too many",
        ("second_thumb", "left", (0,), 6): "a left hand with two thumbs",
    }
    for (name, side, fingers, count), words in said.items():
        assert describe(BY_NAME[name], side, fingers, count) == words


def test_edits_for_testing_are_never_drawn_for_training():
    rng = np.random.default_rng(0)
    for names in (RENDERED_EDITS, PHOTO_EDITS):
        train = [draw_edit(rng, names, held_out=False) for _ in range(2000)]
        assert not any(edit.held_out for edit in train)
        test = [draw_edit(rng, names, held_out=True) for _ in range(4000)]
        assert {edit.name for edit in test} == set(names)
        malformed = [edit for edit in test if edit.kind != "normal"]
        unseen = [edit.held_out for edit in malformed]
        assert 0.26 < np.mean(unseen) < 0.34
        share = Counter(edit.kind for edit in test)
        assert 0.31 < share["normal"] / 4000 < 0.36
        assert all(0.14 < share[kind] / 4000 < 0.19 for kind in KINDS[1:])


def test_each_malformed_class_can_be_trained_and_is_tested_by_an_unseen_edit():
    for names in (RENDERED_EDITS, PHOTO_EDITS):
        for kind in KINDS[1:]:
            held_out = {BY_NAME[name].held_out for name in names if BY_NAME[name].kind == kind}
            assert held_out == {False, True}
    assert len(BY_NAME) == len(EDITS)
