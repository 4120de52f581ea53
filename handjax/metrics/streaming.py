"""Statistics of features that come in batches, in memory that does not grow with the number of pictures."""

import numpy as np
from jaxtyping import Float

from handjax.metrics.frechet import Moments

KEPT = 50_000
"""Features that are kept, as many as published FIDs are of; Inception's are then 0.4 GB."""
FOLDED = 1024
"""Features that go into the moments at a time: merging costs as much for one as for a thousand."""


class FeatureStream:
    """Moments of all features, which FID needs, and a sample of them, which KID, Inception score and intervals need.

    The sample is all of them while they are few, and beyond that drawn without replacement, each feature as likely as
    any other.

    Source of the sample: Vitter 1985, "Random sampling with a reservoir", algorithm R.
    """

    def __init__(self, seed: int = 0, most: int = KEPT):
        """Nothing yet.

        Args:
            seed: of the sample; the same seed and features in the same order give the same.
            most: features that are kept.
        """
        self._rng, self._most = np.random.default_rng(seed), most
        self._moments: Moments | None = None
        self._waiting: list[np.ndarray] = []
        self._kept: list[np.ndarray] = []
        self.count = 0
        """Features that were added."""

    def add(self, feature: Float[np.ndarray, " d"]) -> None:
        """Takes one picture's features."""
        self.count += 1
        if len(self._kept) < self._most:
            self._kept.append(feature)
        elif (place := self._rng.integers(self.count)) < self._most:
            self._kept[place] = feature
        self._waiting.append(feature)
        if len(self._waiting) == FOLDED:
            self._fold()

    @property
    def moments(self) -> Moments:
        """Of all features that were added, of which there must be one."""
        self._fold()
        assert self._moments is not None
        return self._moments

    @property
    def kept(self) -> Float[np.ndarray, "kept d"]:
        """The sample, in the order of coming while it is of all."""
        return np.stack(self._kept)

    def _fold(self) -> None:
        if self._waiting:
            batch = Moments.of(np.stack(self._waiting))
            self._moments = batch if self._moments is None else self._moments.merge(batch)
            self._waiting.clear()
