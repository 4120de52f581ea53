"""Which commands make the embedded mesh recovery; they are written down instead of run."""

import sys

from launch import stages
from launch.assets import recovery


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
