"""A job that is killed and started again writes the very bytes of one that was left alone, at any worker count."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import handjax
from data_pipelines.shards import file_hash

PHOTOS = Path(handjax.__file__).parent / "assets" / "photos"
COPIES = 60


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """180 photos under names of their own, two of them damaged."""
    folder = tmp_path_factory.mktemp("photos")
    for photo in PHOTOS.glob("*.jpg"):
        for number in range(COPIES):
            shutil.copy2(photo, folder / f"{photo.stem}-{number:03d}.jpg")
    for number in (3, 30):
        (folder / f"nocurl-{number:03d}.jpg").write_bytes(b"\xff\xd8 cut off")
    return folder


def start(photos, output, workers):
    settings = ["--output", str(output), "--workers", str(workers)]
    with output.with_suffix(".log").open("w") as log:
        return subprocess.Popen([sys.executable, "-m", "launch.precompute", str(photos), *settings], stderr=log)


def hashes(output):
    return {path.name: file_hash(path) for path in output.glob("*.array_record-*-of-?????")}


@pytest.mark.slow
def test_killed_and_started_again_two_workers_write_what_one_writes(photos, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert start(photos, one, 1).wait() == 2  # two photos are damaged

    for victim in ("worker", "command"):
        process = start(photos, two, 2)
        work = tmp_path / "two.partial"
        wanted = len(list(work.glob("*-of-?????.json"))) + 1
        while len(list(work.glob("*-of-?????.json"))) < wanted:
            assert process.poll() is None, two.with_suffix(".log").read_text()
            time.sleep(0.05)
        pid = int((work / "workers.pid").read_text().split()[0]) if victim == "worker" else process.pid
        os.kill(pid, signal.SIGKILL)
        assert process.wait(timeout=60) == (2 if victim == "worker" else -signal.SIGKILL)
        told = two.with_suffix(".log").read_text()
        assert "Traceback" not in told and ("finished shards are kept" in told) == (victim == "worker")
        assert not two.exists()
    assert start(photos, two, 2).wait() == 2

    manifests = [json.loads((output / "manifest.json").read_text()) for output in (one, two)]
    assert hashes(one) == hashes(two) == {shard["file"]: shard["sha256"] for shard in manifests[0]["shards"]}
    for part in ("pictures", "records", "failures", "shards"):
        assert manifests[0][part] == manifests[1][part]
    assert manifests[0]["failures"]["counts"] == {"unreadable": 2}
    assert manifests[1]["kept_shards"] >= 2 and manifests[0]["kept_shards"] == 0
