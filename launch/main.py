"""The `handjax` command: `handjax NAME …` is `python -m launch.NAME …`, from any folder."""

import runpy
import sys

COMMANDS = (
    "app",
    "bench",
    "caption",
    "commitment",
    "compile",
    "demo",
    "detect",
    "encode",
    "evaluate",
    "export",
    "generate",
    "parity",
    "precompute",
    "reconstruct",
    "refine",
    "scaling",
    "score",
    "tables",
    "text_to_mesh",
    "train",
)


def main() -> None:
    """Runs the command named by the first argument; without one, lists the commands."""
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        asked = f"no command {sys.argv[1]!r}; " if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else ""
        print(f"{asked}usage: handjax COMMAND [options]\ncommands: {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(0 if len(sys.argv) > 1 and sys.argv[1] in ("-h", "--help") else 2)
    name = sys.argv.pop(1)
    sys.argv[0] = f"handjax {name}"
    runpy.run_module(f"launch.{name}", run_name="__main__")
