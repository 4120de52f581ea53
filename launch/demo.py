"""The whole path in a few minutes: photos → conditions → training → a repaired picture; `make demo`."""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from data_pipelines.features import open_records
from handjax.errors import InputError
from launch import command
from launch.precompute import MANIFEST

CARRIED_PHOTOS = Path(__file__).parent.parent / "handjax" / "assets" / "photos"
HELD_OUT_LOSS = "eval/mmse"


def main() -> int:
    """Runs precompute, train and refine one after the other, as a user would type them."""
    parser = argparse.ArgumentParser(prog="launch.demo", description=__doc__)
    parser.add_argument("--photos", type=Path, default=CARRIED_PHOTOS, help="folder of photos with hands")
    parser.add_argument("--picture", type=Path, help="picture to repair (default: the first of the photos)")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="where everything is written")
    parser.add_argument("--steps", type=int, default=200, help="training steps")
    parser.add_argument("--rendered", type=int, default=160, help="rendered hands to train on beside the photos")
    arguments = parser.parse_args()
    out = arguments.out

    shutil.rmtree(out / "run", ignore_errors=True)  # an earlier demo's, on other photos
    # some photos may show no hand: status 2, but the rest is prepared
    launch("precompute", "--input", arguments.photos, "--output", out / "photos", tolerated=command.USER_ERROR_STATUS)
    launch("precompute", "--input", f"rendered:{arguments.rendered}", "--output", out / "rendered")
    launch(
        "train",
        *("--config", "sgm.py:tiny", "--workdir", out / "run"),
        f"--config.data.path={out / 'photos'},{out / 'rendered'}",
        f"--config.steps={arguments.steps}",
        f"--config.eval_every={max(1, arguments.steps // 8)}",
    )
    losses = read_losses(out / "run" / "metrics.jsonl")
    plot_losses(losses, out / "loss.png")
    picture = arguments.picture or arguments.photos / first_photo(out / "photos")
    launch("refine", picture, "--out", out / "refined", "--adapter", out / "run")

    first, last = losses[HELD_OUT_LOSS][0][1], losses[HELD_OUT_LOSS][-1][1]
    print(f"\nheld-out masked MSE  {first:.4f} -> {last:.4f}")
    print(f"loss curve           {out / 'loss.png'}")
    print(f"attention heat maps  {out / 'run' / 'previews'}")
    print(f"before               {picture}")
    print(f"after                {out / 'refined'}")
    return 0


def launch(name: str, *arguments: object, tolerated: int = 0) -> None:
    """Runs `python -m launch.NAME`, echoing what to type; a failing command ends the demo with its own message."""
    words = [f"launch.{name}", *map(str, arguments)]
    print(f"\n$ python -m {shlex.join(words)}", flush=True)
    status = subprocess.run([sys.executable, "-m", *words], check=False).returncode
    if status not in (0, tolerated):
        raise InputError(f"the demo stopped: launch.{name} ended with status {status}, see its message above")


def first_photo(records: Path) -> str:
    """Names a photo that shows a hand, relative to the folder of photos."""
    if not (records / MANIFEST).is_file():
        raise InputError("the demo stopped: no photo could be prepared, see the message above")
    source = open_records(records, "train")
    assert source is not None  # precompute ends without a manifest where nothing is left to train on
    return str(source[0].source)


def read_losses(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Reads metrics.jsonl into curves: name → [(step, value)] of every loss."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        for name in ("loss", "eval/mmse", "eval/ka"):
            if name in row:
                curves.setdefault(name, []).append((row["step"], row[name]))
    return curves


def plot_losses(curves: dict[str, list[tuple[int, float]]], path: Path) -> None:
    """Draws the loss curves."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), marker="o" if name.startswith("eval") else None, label=name)
    axes.set(xlabel="step", ylabel="loss", yscale="log", title="sgm.py:tiny")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    command.run(main)
