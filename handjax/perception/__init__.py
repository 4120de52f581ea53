"""Finding hands: MediaPipe's palm detector and landmark network in Flax, and the geometry around them."""

from handjax.perception.detector import DetectedHand, HandDetector
from handjax.perception.tracking import HandTracker

__all__ = ["DetectedHand", "HandDetector", "HandTracker"]
