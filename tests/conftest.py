"""Every test process shares the commands' compile cache: what one has compiled, the others read."""

import os

# Most of a test's time is compiling, which takes a third as long without optimising and with the older emitters.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import launch  # noqa: F401, I001  (sets variables that JAX reads when it is imported, so before JAX)

from pathlib import Path

import chex  # noqa: F401  (defines the flag)
import jax
import pytest
from absl import flags

MAPS = Path("/proc/self/maps")
MOST_MAPS = 30_000

# chex would leave out pmap on one device.
flags.FLAGS["chex_skip_pmap_variant_if_single_device"].value = False


@pytest.fixture(autouse=True, scope="module")
def few_programs():
    """Compiled programs hold memory maps, of which Linux gives a process 65,530; without one more, XLA aborts."""
    yield
    if MAPS.exists() and MAPS.read_text().count("\n") > MOST_MAPS:
        jax.clear_caches()
