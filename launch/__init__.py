"""One command a file; `python -m launch.NAME` and `handjax NAME` are the same."""

import os
from pathlib import Path


def _enable_compile_cache() -> None:
    """Compiled programs outlive the process, so that nobody waits twice; JAX's own variables override it.

    Done here because JAX reads its variables when it is imported, which the commands do in their first lines.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(home / "handjax" / "xla"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")


_enable_compile_cache()
