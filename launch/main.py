"""The `handjax` command: `handjax NAME …` is `python -m launch.NAME …`, from any folder."""

import pkgutil
import runpy
import sys

import launch

HELPERS = {
    "assets",
    "bench_effnet",
    "bench_hands",
    "bench_loader",
    "bench_rasterize",
    "bench_sd",
    "command",
    "compile_text",
    "evaluate_distance",
    "generator",
    "guidance",
    "main",
    "memory",
    "peer_memory",
    "peers",
    "pyrender_peer",
    "score_csv",
    "score_report",
    "score_text",
    "timing",
    "topologies",
}


def main() -> None:
    """Runs the command named by the first argument; without one, lists the commands."""
    names = sorted(m.name for m in pkgutil.iter_modules(launch.__path__) if m.name not in HELPERS)
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        asked = f"no command {sys.argv[1]!r}; " if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else ""
        print(f"{asked}usage: handjax COMMAND [options]\ncommands: {', '.join(names)}", file=sys.stderr)
        sys.exit(0 if len(sys.argv) > 1 and sys.argv[1] in ("-h", "--help") else 2)
    name = sys.argv.pop(1)
    sys.argv[0] = f"handjax {name}"
    runpy.run_module(f"launch.{name}", run_name="__main__")
