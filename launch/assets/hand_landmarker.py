"""Assembles handjax/assets/hand_landmarker.task from MediaPipe's published wheel.

MediaPipe 1.2.2 carries no models; the wheel of 0.10.21 does (Apache-2.0). Download it, do not install it:

    pip download mediapipe==0.10.21 --no-deps --python-version 3.11 --only-binary=:all:
    python -m launch.assets.hand_landmarker mediapipe-0.10.21-*.whl

The result is the same, byte for byte, whenever it is run: a zip archive without compression, which MediaPipe's own
Tasks API maps into memory as it is.
"""

import argparse
import hashlib
import zipfile
from pathlib import Path

import handjax
from handjax.errors import WeightsError
from handjax.files import atomic_write
from launch import command

_ASSETS = Path(handjax.__file__).parent / "assets"
_MODELS = {  # name in the task: (path in the wheel, SHA-256)
    "hand_detector.tflite": (
        "mediapipe/modules/palm_detection/palm_detection_full.tflite",
        "1b14e9422c6ad006cde6581a46c8b90dd573c07ab7f3934b5589e7cea3f89a54",
    ),
    "hand_landmarks_detector.tflite": (
        "mediapipe/modules/hand_landmark/hand_landmark_full.tflite",
        "11c272b891e1a99ab034208e23937a8008388cf11ed2a9d776ed3d01d0ba00e3",
    ),
}
_LICENSE = "mediapipe-0.10.21.dist-info/LICENSE"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="the downloaded mediapipe-0.10.21 wheel")
    arguments = parser.parse_args()
    try:
        with zipfile.ZipFile(arguments.wheel) as wheel:
            models = {name: wheel.read(path) for name, (path, _) in _MODELS.items()}
            license_text = wheel.read(_LICENSE)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{arguments.wheel}: not the wheel of mediapipe 0.10.21 ({error})") from error
    for name, (path, digest) in _MODELS.items():
        if hashlib.sha256(models[name]).hexdigest() != digest:
            raise WeightsError(f"{arguments.wheel}: {path} is not the published model (SHA-256 differs)")
    with atomic_write(_ASSETS / "hand_landmarker.task") as temporary, zipfile.ZipFile(temporary, "w") as task:
        for name, data in models.items():
            task.writestr(zipfile.ZipInfo(name), data)
    source = "hand_landmarker.task holds two models of the PyPI wheel mediapipe 0.10.21, unchanged:\n" + "".join(
        f"  {name} = {path}\n  SHA-256 {digest}\n" for name, (path, digest) in _MODELS.items()
    )
    with atomic_write(_ASSETS / "MEDIAPIPE_LICENSE") as temporary:
        temporary.write_bytes(source.encode() + b"They are licensed as follows.\n\n" + license_text)


if __name__ == "__main__":
    command.run(main)
