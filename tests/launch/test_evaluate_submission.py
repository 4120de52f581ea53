"""What a server would read of faked evaluation sets, beside what a tiny random network of MANO says about the crops."""

import dataclasses
import json
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.errors import ConfigError, InputError
from handjax.hand.mano import load_mano
from handjax.hand.topology import MANO_TIP_VERTICES
from handjax.images import read_image, resize, write_image
from handjax.recovery.camera import project_to_crop
from handjax.recovery.files import save_recovery
from handjax.recovery.reading import Fixed, MeshReader
from handjax.recovery.submission import RULES
from launch import evaluate
from tests.data_pipelines.datasets import test_freihand, test_ho3d
from tests.data_pipelines.datasets.truth import picture_of, pixels_of, true_hand
from tests.hand.mano_files import mano_arrays, write_python2
from tests.recovery.tiny_models import random_model

COUNT = 3
TIPS = [4, 8, 12, 16, 20]
"""Of OpenPose's keypoints."""
HO3D_NAMES = ["SM1/0012", "AP10/0003", "SM1/0007"]


@pytest.fixture(scope="module")
def model():
    return random_model()._replace(tokenizer=random_model().tokenizer._replace(hand="mano"))


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    """Folders of weights and of MANO."""
    folder = tmp_path_factory.mktemp("files")
    save_recovery(model, folder / "model")
    return folder / "model", write_python2(folder / "MANO_RIGHT.pkl", mano_arrays())


@pytest.fixture(autouse=True)
def small_sets(monkeypatch):
    for name, rules in RULES.items():
        monkeypatch.setitem(RULES, name, dataclasses.replace(rules, pictures=COUNT))


def hands_of(module, places):
    return [
        true_hand(seed, "right", module.K, module.SIZE, place, 0.7 + 0.1 * seed) for seed, place in enumerate(places)
    ]


def write_freihand(folder):
    """The evaluation's pictures and annotations in the layout of the authors' toolbox."""
    hands = hands_of(test_freihand, [(90, 112), (140, 100), (112, 130)])
    for number, hand in enumerate(hands):
        write_image(folder / "evaluation" / "rgb" / f"{number:08d}.jpg", picture_of([hand], test_freihand.SIZE))
    for name, entries in {"K": [test_freihand.K] * COUNT, "xyz": [hand.points for hand in hands]}.items():
        (folder / f"evaluation_{name}.json").write_text(json.dumps([np.asarray(entry).tolist() for entry in entries]))
    return hands, [folder / "evaluation" / "rgb" / f"{number:08d}.jpg" for number in range(COUNT)]


def write_ho3d(folder):
    """Likewise; the list is in no order of names."""
    hands = hands_of(test_ho3d, [(200, 200), (420, 220), (320, 300)])
    for name, hand in zip(HO3D_NAMES, hands, strict=True):
        root = {"handJoints3D": test_ho3d.opengl(hand.points[0])}
        picture = picture_of([hand], test_ho3d.SIZE)
        test_ho3d.write_frame(folder / "evaluation", name, picture, root, ".png")
    points = [test_ho3d.opengl(hand.points[test_ho3d.OPENPOSE_OF_HO3D]).astype(float).tolist() for hand in hands]
    (folder / "evaluation.txt").write_text("\n".join(HO3D_NAMES))
    (folder / "evaluation_xyz.json").write_text(json.dumps(points))
    return hands, [folder / "evaluation" / f"{name.replace('/', '/rgb/')}.png" for name in HO3D_NAMES]


def call(monkeypatch, capsys, source, files, out):
    words = ["--data", source, "--model", files[0], "--hand-model", files[1], "--out", out, "--json"]
    monkeypatch.setattr(sys, "argv", ["launch.evaluate", "--suite", "submission", *map(str, words)])
    status = evaluate.main()
    return status, json.loads(capsys.readouterr().out)


def read_predictions(out):
    with zipfile.ZipFile(out / "pred.zip") as archive:
        return [np.array(part) for part in json.loads(archive.read("pred.json"))]


def cut_out(path, hand):
    """Corner and side of the square of 1.6 boxes, and what the network sees of it."""
    image, (low, high) = read_image(path), (hand.pixels.min(0), hand.pixels.max(0))
    side = int(np.ceil(1.6 * (high - low).max()))
    corner = np.round((low + high - side) / 2).astype(int)
    x, y = (np.clip(np.arange(at, at + side), 0, end - 1) for at, end in zip(corner, image.shape[1::-1], strict=True))
    return corner, side, resize(image[y[:, None], x], (256, 256)) / 127.5 - 1


def recovered(model, mano, crops, cue):
    reader = MeshReader(model.network, model.tokenizer.network)
    fixed = Fixed(model.tokenizer.arrays, mano)
    return jax.jit(reader.recover)(model.params, fixed, jnp.stack(crops), jnp.asarray(cue), jax.random.key(0))[0]


def distances(vertices):
    """Between every 20th vertex and every other one, which no turn or shift changes."""
    some = np.asarray(vertices, np.float64)[:, ::20]
    return np.linalg.norm(some[:, :, None] - some[:, None], axis=-1)


def in_our_axes(name, keypoints, vertices):
    """What was written, by joint_order.png and OpenGL's axes turned back."""
    if name == "freihand":
        return keypoints, vertices
    ordered = np.empty_like(keypoints)
    ordered[:, test_ho3d.OPENPOSE_OF_HO3D] = keypoints
    return ordered * test_ho3d.FLIP, vertices * test_ho3d.FLIP


@pytest.mark.parametrize("name, write", [("freihand", write_freihand), ("ho3d_v2", write_ho3d)])
def test_hands_of_all_pictures_stand_where_their_crops_show_them(
    name, write, model, files, tmp_path, monkeypatch, capsys
):
    hands, paths = write(tmp_path / "data")
    status, document = call(monkeypatch, capsys, f"{name}:{tmp_path / 'data'}", files, tmp_path / "out")
    assert status == 0 and document["items"] == [{"output": str(tmp_path / "out" / "pred.zip"), "pictures": COUNT}]
    keypoints, vertices = in_our_axes(name, *read_predictions(tmp_path / "out"))
    project, matrix = name.partition("_")[0], {"freihand": test_freihand.K, "ho3d_v2": test_ho3d.K}[name]
    np.testing.assert_allclose(keypoints[:, TIPS], vertices[:, MANO_TIP_VERTICES[project]], atol=2e-6)

    corners, sides, crops = zip(*map(cut_out, paths, hands), strict=True)
    corner, side = np.array(corners)[:, None], np.array(sides)[:, None, None]
    mano = load_mano(files[1], tips=project)
    pixels = np.stack([hand.pixels for hand in hands])
    cue = np.concatenate([(pixels - corner) / side - 0.5, np.ones((COUNT, 21, 1))], axis=2)
    made = recovered(model, mano, 2 * crops, np.concatenate([0 * cue, cue]))
    alone, told = np.split(distances(made.posed.vertices), 2)
    np.testing.assert_allclose(distances(vertices), alone, atol=1e-5)
    assert np.abs(distances(vertices) - told).max((1, 2)).min() > 1e-3

    wanted = corner + (np.asarray(project_to_crop(made.posed.keypoints, made.camera))[:COUNT] + 0.5) * side
    seen = np.stack([pixels_of(points, matrix) for points in keypoints])
    assert np.abs((seen - wanted).mean(1)).max() < 0.3  # pixels
    assert (np.abs(seen - wanted) < 0.06 * side).all()  # perspective is stronger than in the crop


def test_hands_that_cannot_be_placed_are_named_and_no_file_is_written(files, tmp_path, monkeypatch, capsys):
    write_freihand(tmp_path / "data")
    path = tmp_path / "data" / "evaluation_xyz.json"
    points = np.array(json.loads(path.read_text()))
    points[1, :, :2] = points[1].mean(0)[:2] + 0.05 * (points[1] - points[1].mean(0))[:, :2]
    path.write_text(json.dumps(points.tolist()))
    status, document = call(monkeypatch, capsys, f"freihand:{tmp_path / 'data'}", files, tmp_path / "out")
    assert status == 2 and not document["items"] and not (tmp_path / "out" / "pred.zip").exists()
    first, last = document["errors"]
    assert first["input"] == "evaluation/00000001" and "too small" in first["error"]
    assert "not written, for 1 of 3 hands could not be placed" in last["error"]


def test_what_no_server_takes_is_refused(files, tmp_path, monkeypatch, capsys):
    write_freihand(tmp_path / "data")
    good = f"freihand:{tmp_path / 'data'}"
    for source in ("rhd:data", str(tmp_path / "data"), "freihand:"):
        with pytest.raises(ConfigError, match="not a data set with a server; give freihand:FOLDER or ho3d_v2:FOLDER"):
            call(monkeypatch, capsys, source, files, tmp_path)
    save_recovery(random_model(), tmp_path / "open")
    with pytest.raises(ConfigError, match="knows the open hand; servers take MANO's 778 vertices"):
        call(monkeypatch, capsys, good, (tmp_path / "open", files[1]), tmp_path)
    monkeypatch.setitem(RULES, "freihand", dataclasses.replace(RULES["freihand"], pictures=COUNT + 1))
    with pytest.raises(InputError, match="3 pictures to evaluate, freihand's server takes 4; unpack FreiHAND_pub_v2"):
        call(monkeypatch, capsys, good, files, tmp_path)
    (tmp_path / "data" / "evaluation" / "rgb" / "00000002.jpg").unlink()
    with pytest.raises(InputError, match="00000002.jpg: missing"):
        call(monkeypatch, capsys, good, files, tmp_path)
    assert not (tmp_path / "pred.zip").exists()
