"""Rows of what gradients take, of accounts that are made up; the compiler's own are a slow test."""

import itertools

import pytest

from launch import bench_guidance_memory
from launch.bench import describe
from launch.bench_guidance_memory import Account


@pytest.mark.slow
def test_a_gradient_stands_beside_decoding_alone(monkeypatch):
    asked = {None: 1.0, "none": 8.0, "blocks": 4.0}
    monkeypatch.setattr(
        bench_guidance_memory, "account", lambda model, cells, remat: Account(cells * asked[remat], asked[remat] / 4)
    )
    items = list(bench_guidance_memory.bench_guidance_memory(1))
    assert [(item["ours"], item["peer"], item["ratio"]) for item in items] == [
        (512, 64, 8),
        (256, 64, 4),
        (256, 32, 8),
        (128, 32, 4),
    ]
    assert describe(items[1]) == (
        "gradient of decoding 64² latents, remat blocks: 256 GiB, without gradient 64 GiB, ratio 4; 1 and 0.25 TFLOP"
    )


@pytest.mark.slow
def test_by_blocks_less_is_kept_and_more_computed():
    none, blocks = itertools.islice(bench_guidance_memory.bench_guidance_memory(1, "shapes:tiny_inpainting", 96), 2)
    assert none["peer"] < blocks["ours"] < none["ours"]
    assert none["peer_tflop"] < none["tflop"] < blocks["tflop"] < 1.5 * none["tflop"]
