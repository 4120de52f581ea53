"""What all builders of published data sets have in common, shown on RHD."""

from pathlib import Path

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import FrozenConfigDict

from data_pipelines.datasets.builder import DatasetConfig
from data_pipelines.datasets.registry import DATASETS
from data_pipelines.datasets.rhd import Rhd
from data_pipelines.features import open_records
from data_pipelines.loader import make_loader
from handjax.errors import InputError
from tests.data_pipelines.datasets.test_rhd import write_rhd
from tests.data_pipelines.datasets.truth import prepare


@pytest.fixture(scope="module")
def rhd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rhd")
    write_rhd(folder)
    return folder


def test_every_data_set_says_where_it_comes_from():
    for name, builder in DATASETS.items():
        facts = builder.FACTS
        assert name == facts.name and builder.name == name
        assert facts.homepage.startswith("https://") and facts.licence and facts.citation.startswith("@")
        assert "http" in facts.download and not facts.download.endswith(".")


def test_every_data_set_is_in_the_documentation():
    document = Path("docs/data.md").read_text()
    assert [name for name in DATASETS if f"| [`{name}`]({DATASETS[name].FACTS.homepage}) |" not in document] == []


def test_tfds_reads_it_from_the_manual_dir(rhd, tmp_path):
    builder = Rhd(config=DatasetConfig(splits=("eval",)), data_dir=str(tmp_path), file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=str(rhd)))
    (record,) = open_records(tmp_path, "eval")
    assert record.side == "left"
    info = tfds.builder_from_directory(str(builder.data_path)).info
    assert info.redistribution_info.license == Rhd.FACTS.licence and info.citation == Rhd.FACTS.citation


def test_without_conditions_only_the_skeleton_and_what_is_annotated_are_there(rhd, tmp_path):
    config = DatasetConfig(folder=str(rhd), splits=("eval",), conditions=False)
    Rhd(config=config, data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    (record,) = open_records(tmp_path, "eval")
    assert record.skeleton and record.mask and record.camera is not None and record.caption
    assert all(
        getattr(record, name) is None for name in ("depth", "mesh", "pose", "betas", "translation", "hand_model")
    )


def test_training_reads_the_records(rhd, tmp_path, monkeypatch):
    prepare(monkeypatch, f"rhd:{rhd}", tmp_path / "out", "--splits", "train")
    shapes = {"image": (64, 64, 3), "mask": (64, 64, 1), "depth": (64, 64, 1), "skeleton": (64, 64, 3)}
    spec = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
    config = FrozenConfigDict({"path": str(tmp_path / "out"), "image_size": 64})
    batch = next(iter(make_loader(config, spec, 3, seed=0, split="train")))
    assert all(np.isfinite(batch[name]).all() and batch[name].any() for name in spec)
    assert ((batch["depth"] > 0) <= (batch["mask"] > 0)).all()


def test_a_limit_draws_the_same_pictures_again(rhd, tmp_path, monkeypatch):
    draws = [
        set(prepare(monkeypatch, f"rhd:{rhd}", tmp_path / str(n), "--limit", 1, "--splits", "train")["train"])
        for n in range(2)
    ]
    assert draws[0] == draws[1] and len({name.split("#")[0] for name in draws[0]}) == 1


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        (("--splits", "test"), InputError, "rhd has no split 'test'; it has train, eval"),
        (("--paper-eval", 0), InputError, "no paper draws"),
        (("--mano", "nowhere"), InputError, r"MANO_LEFT.pkl: missing; --mano"),
    ],
)
def test_what_cannot_work_is_refused(rhd, tmp_path, monkeypatch, arguments, error, text):
    with pytest.raises(error, match=text):
        prepare(monkeypatch, f"rhd:{rhd}", tmp_path / "out", *arguments)


def test_a_damaged_picture_is_counted_and_the_rest_goes_on(tmp_path, monkeypatch, capsys):
    write_rhd(tmp_path / "rhd")
    (tmp_path / "rhd" / "training" / "color" / "00000.png").write_bytes(b"not a picture")
    records = prepare(monkeypatch, f"rhd:{tmp_path / 'rhd'}", tmp_path / "out")
    assert set(records["train"]) == {"training/00001#1"}
    assert "1 unreadable" in capsys.readouterr().out
