"""When does a model commit to the hands it draws? `python -m launch.commitment PROMPT… --out DIR`.

Makes pictures, looks for hands in what the model sees at each step, and finds the timestep t* from which the skeleton
of each hand stays as it is (HandAnat section 3.3; DECISIONS E6). Hands only: other regions have no skeleton. Writes
DIR/commitment.json, DIR/commitment.png (how t* is spread, and the signal-to-noise ratio) and DIR/estimates.png (a row a
picture: what the model saw on its way).
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from handjax.anatomy.commitment import share_committed, signal_to_noise
from handjax.diffusion.schedules import NoiseSchedule
from handjax.errors import ConfigError
from handjax.files import write_json
from handjax.images import write_image
from handjax.inference.commitment import Commitment, find_commitments, summarise_commitments
from handjax.perception import HandDetector
from launch import command
from launch.generate import add_wish_arguments, read_wishes
from launch.generator import add_model_arguments, load_generator
from launch.guidance import read_guidance

SHEET_ROWS, SHEET_COLUMNS = 12, 10


def main() -> int:
    """Prints t* of every picture's hands, and their mean."""
    arguments = _parse_arguments()
    wishes = read_wishes(arguments)
    if read_guidance(arguments):
        raise ConfigError("--guidance moves what is measured here; leave it out")
    report = command.Report("commitment", arguments.json)
    generator, provenance = load_generator(arguments)
    schedule, found = generator.model.schedule, []
    detector = HandDetector.load(arguments.backend)
    with tqdm(total=len(wishes), desc="commitment", unit="picture", disable=None) as bar:
        for one in find_commitments(generator, detector, wishes):
            found.append(one)
            with bar.external_write_mode(file=sys.stdout):
                report.item(describe(one, schedule), line(one, schedule))
            bar.update()
    figures = summarise_commitments(generator, found)
    timesteps = generator.sampler.trajectory().timesteps
    arguments.out.mkdir(parents=True, exist_ok=True)
    document = {"figures": figures, "pictures": [describe(one, schedule) for one in found], "settings": provenance}
    write_json(arguments.out / "commitment.json", json.loads(json.dumps(document | command.environment())))
    write_image(arguments.out / "estimates.png", sheet(found))
    plot(arguments.out / "commitment.png", timesteps, [t for one in found for t in one.timesteps], schedule)
    report.item({"figures": figures}, table(figures))
    return report.finish()


def describe(one: Commitment, schedule: NoiseSchedule) -> dict[str, Any]:
    """One picture of the JSON document."""
    hands = [{"t": t, "snr_db": round(_ratio(schedule, t), 3)} for t in one.timesteps]
    return dataclasses.asdict(one.wish) | {"hands": hands, "found_in": sum(map(bool, one.hands))}


def line(one: Commitment, schedule: NoiseSchedule) -> str:
    """One picture in words."""
    points = ", ".join(f"t* {t:.0f} ({_ratio(schedule, t):.2f} dB)" for t in one.timesteps)
    return f"{one.wish.prompt!r}, seed {one.wish.seed}: {points or 'no hand at the end'}"


def table(figures: dict[str, Any]) -> str:
    """The figures as the paper's table has them."""
    counted = f"{figures['hands']} hands in {figures['pictures']} pictures, {figures['without_hand']} without a hand"
    if not figures["hands"]:
        return counted
    return (
        f"region  t*          SNR at t* (dB)\n"
        f"hands   {figures['t']:.0f} ± {figures['t_std']:.0f}   {figures['snr_db']:.2f} ± {figures['snr_db_std']:.2f}\n"
        f"{counted}; t* ± 100: --anatomy-window {figures['window'][0]:.0f} {figures['window'][1]:.0f}"
    )


def sheet(found: list[Commitment]) -> UInt8[np.ndarray, "height width 3"]:
    """What the model saw, a row a picture, noisiest first."""
    steps = np.linspace(0, len(found[0].estimates) - 1, SHEET_COLUMNS).round().astype(int)
    return np.concatenate([np.concatenate(list(one.estimates[steps]), axis=1) for one in found[:SHEET_ROWS]])


def plot(path: Path, timesteps: np.ndarray, points: list[float], schedule: NoiseSchedule) -> None:
    """Draws the share of hands that have committed, and the signal-to-noise ratio, over the timesteps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.4), layout="constrained")
    left = figure.subplots()
    left.step(timesteps, share_committed(timesteps, points), where="post", color="tab:blue")
    left.set(xlabel="timestep", ylabel="share of hands that have committed", ylim=(0, 1.02))
    left.invert_xaxis()
    right = left.twinx()
    right.plot(timesteps, [_ratio(schedule, t) for t in timesteps], color="tab:orange")
    right.set_ylabel("signal-to-noise ratio (dB)", color="tab:orange")
    figure.savefig(path, dpi=120)


def _ratio(schedule: NoiseSchedule, timestep: float) -> float:
    return signal_to_noise(float(schedule.sigma_at(np.array([timestep]))[0]))


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="launch.commitment", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_wish_arguments(parser)
    add_model_arguments(parser)
    parser.set_defaults(sampler="ddim", steps=50, best_of=1)
    parser.add_argument("--backend", choices=["flax", "mediapipe"], default="flax", help="hand detector")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


if __name__ == "__main__":
    command.run(main)
