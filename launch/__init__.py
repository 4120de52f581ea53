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


def _run_one_operation_at_a_time() -> None:
    """Lets XLA order a program for little memory on CPUs, each operation on all cores; XLA_FLAGS override it.

    Its default runs independent operations side by side: the UNet then takes 0.1 s of 3.4 s and 150 MB more.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_cpu_scheduler_type" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_scheduler_type=CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED".strip()


_enable_compile_cache()
_run_one_operation_at_a_time()
