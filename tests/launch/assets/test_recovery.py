"""Which commands make the embedded mesh recovery, which are written down instead of run; what they have made."""

import sys

from handjax.hand.model import load_open_hand
from handjax.images import read_image
from handjax.inference.reconstruct import HandReconstructor
from handjax.inference.refine import MAX_KEYPOINT_ERROR
from handjax.perception import HandDetector
from handjax.perception.detector import TASK_FILE
from handjax.recovery.files import ASSET, load_recovery
from launch import stages
from launch.assets import recovery


def test_the_packages_model_is_small_and_reads_a_photograph():
    assert sum(path.stat().st_size for path in ASSET.rglob("*") if path.is_file()) < 12e6
    reconstructor = HandReconstructor(load_recovery(ASSET), load_open_hand())
    photo = read_image(TASK_FILE.parent / "photos" / "nocurl.jpg")
    (hand,) = HandDetector.load().detect(photo)
    read = reconstructor.read(photo, hand)
    assert read.side == "right" and read.keypoint_error < MAX_KEYPOINT_ERROR
    assert 0.2 < read.translation[2] < 2  # metres before the camera


def test_the_transformer_learns_on_the_tokenizer_of_the_same_folder(tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(stages, "run", lambda name, *words, **_: called.append([name, *map(str, words)]))
    monkeypatch.setattr(recovery, "ASSET", tmp_path / "asset")
    work = tmp_path / "work"
    (work / "photos").mkdir(parents=True)  # as launch.assets.tiny_inpainting left it
    words = ["--photos", str(tmp_path), "--workdir", str(work), "--rendered", "30"]
    monkeypatch.setattr(sys, "argv", ["recovery", *words])
    recovery.main()
    prepared, vq, tokenizer, mmhmr, exported, *evaluated = called
    assert prepared == ["precompute", "--input", "rendered:30", "--output", str(work / "rendered")]
    assert vq == ["train", "--config", "vq_mano.py:embedded", "--workdir", str(work / "vq_mano")]
    assert tokenizer[tokenizer.index("--out") + 1] == str(work / "tokenizer")
    assert mmhmr[:5] == ["train", "--config", "mmhmr.py:embedded", "--workdir", str(work / "mmhmr")]
    assert f"--config.tokenizer={work / 'tokenizer'}" in mmhmr
    assert f"--config.data.path={work / 'photos'}@3,{work / 'rendered'}" in mmhmr
    assert exported[exported.index("--out") + 1] == str(tmp_path / "asset") and exported[-1] == "float16"
    assert [words[words.index("--data") + 1] for words in evaluated] == [str(work / n) for n in ("photos", "rendered")]
