"""The code runs with jax 0.11, which needs Python 3.12; skipped where no such interpreter is installed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

INTERPRETER = os.environ.get("HANDJAX_PYTHON312") or shutil.which("python3.12")
SMOKE = """
import jax, jax.numpy as jnp
from handjax.adapters.sgm import SGM, SGMConfig
from handjax.hand.model import load_open_hand, pose_hand
from handjax.hand.camera import PinholeCamera
from handjax.hand.rasterize import rasterize

model = load_open_hand()
hand = pose_hand(model, jnp.zeros((16, 3)), jnp.zeros(10), jnp.array([0.0, 0.0, 0.5]))
camera = PinholeCamera(jnp.array([64.0, 64.0]), jnp.array([32.0, 32.0]))
assert rasterize(hand.vertices, model.faces, camera, 64, 64).mask.sum() > 50

sgm = SGM(SGMConfig(stem_channels=(8, 8, 8), unet_channels=(8, 8, 8), layers_per_block=1, fusion_channels=8))
output, _ = sgm.init_with_output(jax.random.key(0), jnp.zeros((1, 32, 32, 1)), jnp.zeros((1, 32, 32, 3)))
assert not output.mid_residual.any()
print("jax", jax.__version__)
"""


def has_new_jax(interpreter: str) -> bool:
    probe = "import jax, sys; sys.exit(jax.__version_info__ < (0, 11))"
    return subprocess.run([interpreter, "-c", probe], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(
    INTERPRETER is None or not has_new_jax(INTERPRETER),
    reason="no python3.12 with jax 0.11 (name one with HANDJAX_PYTHON312)",
)
def test_training_and_drawing_run(tmp_path):
    root = Path(__file__).parents[2]
    smoke = subprocess.run([INTERPRETER, "-c", SMOKE], cwd=root, capture_output=True, text=True, check=False)
    assert smoke.returncode == 0, smoke.stderr
    assert smoke.stdout.startswith("jax 0.11")
    words = ("-m", "launch.train", "--config", "tests/training/toy_config.py", "--workdir", str(tmp_path / "run"))
    training = subprocess.run(
        [INTERPRETER, *words, "--config.steps=4"], cwd=root, capture_output=True, text=True, check=False
    )
    assert training.returncode == 0, training.stderr
    assert (tmp_path / "run" / "checkpoints" / "4").is_dir()
