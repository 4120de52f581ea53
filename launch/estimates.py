"""What a model saw on its way to its pictures, written beside them: a data set for MGHanD's discriminator."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_pipelines.splits import estimate_name
from handjax.errors import ConfigError
from handjax.files import write_json
from handjax.guidance.record import Recorder
from handjax.images import write_image
from handjax.inference.generate import Generator

CAPTIONS = "captions.json"


@dataclasses.dataclass
class Estimates:
    """Writes the clean pictures of the steps in a window of timesteps, and the captions of all pictures.

    Args:
      folder: of the pictures.
      window: least and greatest timestep.
    """

    folder: Path
    window: tuple[float, float]
    captions: dict[str, str] = dataclasses.field(default_factory=dict)

    def recording(self, generator: Generator) -> Generator:
        """The generator that keeps what it sees.

        Raises:
          ConfigError: it is guided, so that what it sees is not its own, or has no step in the window.
        """
        if generator.steering is not None:
            raise ConfigError("--estimates are of the model as it is; leave --guidance out")
        if not self._steps(generator):
            low, high = self.window
            raise ConfigError(f"--estimates {low:g} {high:g}: the sampler has no step there; widen it or add --steps")
        recorder = Recorder(generator.sampler.steps, generator.model.vae.config.factor)
        return dataclasses.replace(generator, steering=recorder)

    def write(self, generator: Generator, output: Path, prompt: str, told: dict[str, Any]) -> None:
        """Takes the pictures out of what the recorder told of one wish, and writes those of the window.

        Args:
          generator: of `recording`.
          output: the finished picture; theirs are named after it and their timestep.
          prompt: of it.
          told: loses its "estimates".
        """
        pictures = told.pop("estimates")
        self.captions[output.name] = prompt
        for step, timestep in self._steps(generator):
            path = output.with_name(estimate_name(output.name, timestep))
            write_image(path, pictures[step])
            self.captions[path.name] = prompt
        write_json(self.folder / CAPTIONS, self.captions)

    def _steps(self, generator: Generator) -> Sequence[tuple[int, float]]:
        low, high = sorted(self.window)
        timesteps = generator.sampler.trajectory().timesteps
        return [(step, float(t)) for step, t in enumerate(timesteps) if low <= t <= high]
