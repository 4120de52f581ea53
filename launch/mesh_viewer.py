"""The page of `launch.reconstruct --viewer`: pictures and their hands in space, in one file that needs nothing else."""

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from handjax.files import atomic_write
from handjax.hand.camera import PinholeCamera
from handjax.inference.scene import CONFIDENCE_COLORS, ReconstructedHand

TEMPLATE = Path(__file__).with_suffix(".html")
LONGEST = 720
"""Side of the pictures in the page, pixels."""


class Viewer:
    """Collects pictures or frames, and writes the page."""

    def __init__(self) -> None:
        self._faces: dict[str, str] = {}
        self._scenes: list[dict[str, Any]] = []

    def add(
        self,
        name: str,
        image: UInt8[np.ndarray, "height width 3"],
        camera: PinholeCamera,
        hands: Mapping[str, ReconstructedHand],
        hypotheses: Mapping[str, ReconstructedHand],
    ) -> None:
        """Adds a picture.

        Args:
            name: to be read.
            image: the picture.
            camera: of it.
            hands: by label, which is shown or hidden in all frames alike.
            hypotheses: other poses of these hands by label, hidden until they are asked for.
        """
        self._faces |= {hand.side: _encode(hand.faces, np.uint16) for hand in hands.values()}
        self._scenes.append(
            {
                "name": name,
                "picture": _picture(image),
                "width": image.shape[1],
                "height": image.shape[0],
                "focal": camera.focal.tolist(),
                "center": camera.center.tolist(),
                "hands": [_hand(label, hand, shown=True) for label, hand in hands.items()]
                + [_hand(label, hand, shown=False) for label, hand in hypotheses.items()],
            }
        )

    def write(self, path: Path) -> None:
        """Writes the page, atomically, where there is anything to show."""
        if not self._scenes:
            return
        head, _, foot = TEMPLATE.read_text(encoding="utf-8").partition("<!-- data -->")
        document = {"stops": CONFIDENCE_COLORS.tolist(), "faces": self._faces, "scenes": self._scenes}
        with atomic_write(path) as temporary:
            # so that no name can end the script that it stands in
            text = json.dumps(document).replace("<", "\\u003c")
            temporary.write_text(head + text + foot, encoding="utf-8")


def _hand(label: str, hand: ReconstructedHand, shown: bool) -> dict[str, Any]:
    return {
        "label": label,
        "side": hand.side,
        "note": f"confidence {hand.confidence.mean():.2f}, log-likelihood {hand.log_likelihood:.1f}, "
        f"{hand.keypoint_error:.0%} of the box off its keypoints",
        "shown": shown,
        "vertices": _encode(hand.vertices, np.float32),
        "confidence": _encode(np.round(255 * hand.vertex_confidence), np.uint8),
    }


def _picture(image: UInt8[np.ndarray, "height width 3"]) -> str:
    small, buffer = Image.fromarray(image), io.BytesIO()
    small.thumbnail((LONGEST, LONGEST))
    small.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _encode(values: np.ndarray, dtype: type) -> str:
    """Numbers in the little-endian order that browsers have, as base64."""
    return base64.b64encode(values.astype(np.dtype(dtype).newbyteorder("<")).tobytes()).decode()
