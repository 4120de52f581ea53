"""Every test process shares the commands' compile cache: what one has compiled, the others read."""

import launch  # noqa: F401
