import numpy as np
import pytest

from launch.bench import bench_rasterize, summary


def test_ratio_is_ours_over_peer_of_neighbouring_runs():
    item = summary("x", "peer", [(1.0, 2.0), (2.0, 8.0), (9.0, 12.0)])
    assert (item["ours"], item["peer"], item["ratio"], item["runs"]) == (2.0, 8.0, 0.5, 3)


def test_rasterize_draws_the_same_hand_as_its_peer():
    pytest.importorskip("trimesh")
    item = bench_rasterize(runs=1)
    assert item["mask_iou"] >= 0.995 and item["depth_error_mm"] <= 0.5
    assert 0 < item["ratio"] < 0.1
    np.testing.assert_allclose(item["ratio"], item["ours"] / item["peer"])
