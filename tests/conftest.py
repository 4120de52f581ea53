"""Every test process shares the commands' compile cache: what one has compiled, the others read."""

import launch  # noqa: F401, I001  (before JAX, which reads its variables when it is imported)
import chex  # noqa: F401  (defines the flag)
from absl import flags

# chex would leave out pmap on one device.
flags.FLAGS["chex_skip_pmap_variant_if_single_device"].value = False
