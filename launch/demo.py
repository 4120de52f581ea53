"""The whole path in a few minutes: photos → conditions → training → a repaired picture; `make demo`.

So few steps show that the adapter learns, and are too few to repair by. The repair is by the adapter that the
repository carries, which the same recipe has trained for longer (docs/tiny_model.md).
"""

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
REPAIRS_TRIED = 3
"""So many photos, one after the other, until one is repaired."""


def main() -> int:
    """Runs precompute, train and refine one after the other, as a user would type them."""
    parser = argparse.ArgumentParser(prog="launch.demo", description=__doc__)
    parser.add_argument("--photos", type=Path, default=CARRIED_PHOTOS, help="folder of photos with hands")
    parser.add_argument("--picture", type=Path, help="picture to repair (default: one of the photos)")
    parser.add_argument("--out", type=command.output_folder, default=Path("demo"), help="where everything is written")
    parser.add_argument("--steps", type=int, default=200, help="training steps")
    parser.add_argument("--rendered", type=int, default=160, help="rendered hands to train on beside the photos")
    arguments = parser.parse_args()
    out = arguments.out

    if arguments.picture and not arguments.picture.is_file():
        raise InputError(f"{arguments.picture}: no such file; give --picture another")
    for stale in ("run", "photos"):  # an earlier demo's, on other photos
        shutil.rmtree(out / stale, ignore_errors=True)
    # some photos may show no hand: status 2, but the rest is prepared
    launch("precompute", "--input", arguments.photos, "--output", out / "photos", tolerated=command.USER_ERROR_STATUS)
    photos = photos_with_hands(arguments.photos, out / "photos")
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
    pictures = [arguments.picture] if arguments.picture else photos
    before, after = repair_one(pictures[:REPAIRS_TRIED], out / "refined")

    first, last = losses[HELD_OUT_LOSS][0][1], losses[HELD_OUT_LOSS][-1][1]
    print(f"\nheld-out masked MSE  {first:.4f} -> {last:.4f} in {arguments.steps} steps")
    print(f"loss curve           {out / 'loss.png'}")
    print(f"attention heat maps  {out / 'run' / 'previews'}")
    print(f"before               {before}")
    print(f"after                {after}, by the carried adapter")
    print(f"by the one of here   python -m launch.refine {before} --out {out / 'own'} --adapter {out / 'run'}")
    return 0


def launch(name: str, *arguments: object, tolerated: int = 0) -> None:
    """Runs `python -m launch.NAME`, echoing what to type; a failing command ends the demo with its own message."""
    status = subprocess.run(command_line(name, *arguments), check=False).returncode
    if status not in (0, tolerated):
        raise InputError(f"the demo stopped: launch.{name} ended with status {status}, see its message above")


def command_line(name: str, *arguments: object) -> list[str]:
    """Echoes what to type, and returns what to run for it."""
    words = [f"launch.{name}", *map(str, arguments)]
    print(f"\n$ python -m {shlex.join(words)}", flush=True)
    return [sys.executable, "-m", *words]


def photos_with_hands(photos: Path, records: Path) -> list[Path]:
    """The photos that show a hand and were trained on.

    Raises:
      InputError: there is none.
    """
    if not (records / MANIFEST).is_file():
        raise InputError("the demo stopped: no photo could be prepared, see the message above")
    source = open_records(records, "train")
    assert source is not None  # precompute ends without a manifest where nothing is left to train on
    return list(dict.fromkeys(photos / str(record.source) for record in source))


def repair_one(pictures: list[Path], out: Path) -> tuple[Path, Path]:
    """Repairs one picture after the other, saying what becomes of each, until a hand is repaired.

    Returns:
      The picture and its result.

    Raises:
      InputError: none could be repaired.
    """
    for picture in pictures:
        words = command_line("refine", picture, "--out", out, "--json")
        document = json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=False).stdout or b'{"items": []}')
        for item in document["items"]:
            for hand in item["hands"]:
                print(f"{picture}: {hand['status']} ({hand['reason']})", flush=True)
            if any(hand["status"] == "fixed" for hand in item["hands"]):
                return picture, Path(item["output"])
    raise InputError(
        f"the demo ends without a repaired picture: none of {len(pictures)} could be repaired, see above; "
        "name another by --picture"
    )


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
