"""Makes the embedded mesh recovery, in one command that goes on where it was stopped:

    python -m launch.assets.recovery --photos DIR --workdir DIR

`DIR` holds a folder of photographs for each digit (Sign Language Digits Dataset, Apache-2.0), whose hands are fitted
for meshes to learn from. The stages are the commands a user has: precompute, train (tokenizer, transformer), export,
evaluate. Records that launch.assets.tiny_inpainting prepared in the same --workdir are taken as they are.
"""

import argparse
from pathlib import Path

from handjax.recovery.files import ASSET
from launch import command, stages
from launch.assets.tiny_inpainting import prepare


def main() -> None:
    """Runs the stages that have not left their result yet."""
    parser = argparse.ArgumentParser(prog="launch.assets.recovery", description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, metavar="DIR", help="photographs, a folder a digit")
    parser.add_argument("--workdir", type=Path, required=True, metavar="DIR", help="records and training runs")
    parser.add_argument("--rendered", type=int, default=2400, help="rendered hands beside the photographs")
    arguments = parser.parse_args()
    work = arguments.workdir
    records = prepare(work, arguments.photos, arguments.rendered, malformed=0)
    tokenizer = work / "tokenizer"
    stages.train_and_export("vq_mano.py:embedded", work, "handjax", tokenizer)
    fields = (f"--config.data.path={records}", f"--config.tokenizer={tokenizer}")
    stages.train_and_export("mmhmr.py:embedded", work, "handjax", ASSET, *fields)
    for name in ("photos", "rendered"):
        stages.run("evaluate", "--suite", "recovery", "--data", work / name, "--out", work / "recovery" / name)


if __name__ == "__main__":
    command.run(main)
