"""HandRefiner: hands are inpainted under a ControlNet of depth, as weakly as keeps their pose."""

import dataclasses
from collections.abc import Callable

from jaxtyping import PRNGKeyArray

from handjax.inference.controlled import Controlled, paint_controlled
from handjax.inference.refine import Attempt, Refiner, RepairSettings

PAPER_SETTINGS = RepairSettings(steps=50, guidance_scale=9.0, candidates=1, strengths=(1.0,))
REFERENCE_SCALE = 1.0
WEAKER_SCALES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
TOLERANCE = 1.15
"""A weaker control is enough when its keypoints are off by less than this times the reference's error."""


@dataclasses.dataclass(frozen=True)
class HandRefiner(Refiner):
    """Repairs hands with an inpainting model and a ControlNet of depth, which is the `adapter`.

    Args:
      scale: of the ControlNet's residuals; None is adaptive (`search`).

    Source:
      HandRefiner (Lu et al. 2023, arXiv:2311.17957); DECISIONS B5.
    """

    scale: float | None = None

    def search(self, attempt: Callable[..., Attempt], rng: PRNGKeyArray) -> Attempt:
        """Takes the weakest control whose keypoints are about as good as those of full control, from the same noise.

        A fixed scale is tried alone; arguments and result as `Refiner.search`.
        """
        if self.scale is not None:
            return attempt(rng, scale=self.scale)
        reference = attempt(rng, scale=REFERENCE_SCALE)
        for scale in WEAKER_SCALES:
            weaker = attempt(rng, scale=scale)
            if weaker.error < TOLERANCE * reference.error:
                return weaker
        return reference

    def paint(self, images, mask, depth, skeleton, input_ids, rng, scale=None):
        """Repaints crops as `Refiner.paint` does, under control of the depth alone.

        Args:
          scale: of the ControlNet's residuals; None takes the fixed one, which there is where it is not adaptive.
        """
        scale = self.scale if scale is None else scale
        assert depth is None or scale is not None, "an adaptive scale is for `search` to choose"
        control = None if depth is None else Controlled(self.adapter, self.adapter_params, scale)
        return paint_controlled(self.model, control, self.settings, images, mask, depth, input_ids, rng)
