"""The commands on pictures of every kind and on files that are none: the hand is found, the rest is named."""

import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import handjax
from data_pipelines.features import open_records
from handjax.images import read_image
from launch import detect, precompute, refine

PHOTO = Path(handjax.__file__).parent / "assets" / "photos" / "nocurl.jpg"
NO_PICTURES = {"empty.png", "huge.png", "text.jpg", "truncated.jpg"}
NO_HAND = {"dot.png", "grey.jpg", "deep.png"}  # without its colours the detector does not see the hand either
BOX_TOLERANCE = 0.04  # of its longer side; the detector sees other bytes


def write_huge(path: Path) -> None:
    """400 million pixels in some hundred bytes, of which only the header is true."""
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    body = [struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One photo of a hand in many forms, pictures without hands, and files that are no pictures."""
    folder = tmp_path_factory.mktemp("kinds")
    photo = Image.open(PHOTO).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.rotate(90, expand=True).save(folder / "turned.jpg", quality=95, exif=exif)
    photo.convert("CMYK").save(folder / "inks.jpg", quality=95)
    photo.convert("RGBA").save(folder / "alpha.png")
    photo.quantize(256).save(folder / "palette.png")
    photo.save(folder / "moving.webp", quality=95, save_all=True, append_images=[Image.new("RGB", photo.size)])
    photo.convert("L").save(folder / "grey.jpg", quality=95)
    Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257).save(folder / "deep.png")
    Image.new("RGB", (1, 1), "red").save(folder / "dot.png")
    (folder / "folder.png").mkdir()
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("no picture")
    (folder / "truncated.jpg").write_bytes(PHOTO.read_bytes()[:5000])
    write_huge(folder / "huge.png")
    return folder


def run(command, monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", [command.__name__, *map(str, words), "--json"])
    assert command.main() == 2
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    document = json.loads(output.out)
    assert all("\n" not in error["error"] for error in document["errors"])
    return document


def named(errors) -> dict[str, str]:
    return {Path(error["input"]).name: error["error"] for error in errors}


def test_detect_finds_the_hand_in_every_form(folder, monkeypatch, capsys):
    document = run(detect, monkeypatch, capsys, folder, folder / "absent.jpg", PHOTO)
    errors = named(document["errors"])
    assert set(errors) == NO_PICTURES | NO_HAND | {"absent.jpg"}
    assert "more than 100,000,000; scale it down" in errors["huge.png"]
    assert all("no hand found" in errors[name] for name in NO_HAND)
    items = {Path(item["input"]).name: item for item in document["items"]}
    (expected,) = items.pop("nocurl.jpg")["hands"]
    assert set(items) == {"turned.jpg", "inks.jpg", "alpha.png", "palette.png", "moving.webp"} | NO_HAND
    side = np.ptp(np.reshape(expected["box"], (2, 2)), axis=0).max()
    assert items.pop("dot.png")["width"] == 1
    for name, item in items.items():
        assert (item["width"], item["height"]) == Image.open(PHOTO).size, name
        boxes = [hand["box"] for hand in item["hands"]]
        wanted = [] if name in NO_HAND else [expected["box"]]
        np.testing.assert_allclose(boxes, wanted, atol=BOX_TOLERANCE * side, err_msg=name)


@pytest.mark.slow
def test_refine_repairs_what_it_can_read(folder, monkeypatch, capsys, tmp_path):
    words = [folder / name for name in sorted(NO_PICTURES | {"dot.png", "turned.jpg", "folder.png"})]
    quick = ("--out", tmp_path, "--steps", 1, "--candidates", 1)
    document = run(refine, monkeypatch, capsys, *words, *quick)
    assert set(named(document["errors"])) == NO_PICTURES | {"dot.png", "folder.png"}
    dot, turned = document["items"]
    assert dot["output"] is None
    before, after = read_image(folder / "turned.jpg"), read_image(turned["output"])
    untouched = read_image(turned["mask"])[..., 0] == 0
    np.testing.assert_array_equal(after[untouched], before[untouched])


@pytest.mark.slow
def test_precompute_counts_what_it_cannot_use(folder, monkeypatch, capsys, tmp_path):
    output = tmp_path / "out"
    run(precompute, monkeypatch, capsys, "--input", folder, "--output", output, "--eval-fraction", 0)
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["failures"]["counts"] == {"unreadable": 4, "no hand found": 3}
    records = list(open_records(output, "train"))
    assert len(records) == 5 == manifest["records"]["train"]
    assert all(np.isfinite(record.keypoints_2d).all() for record in records)
