"""t* of pictures, with a detector whose findings are written down."""

import numpy as np
import pytest

from handjax.diffusion.samplers import DDIM
from handjax.errors import ConfigError
from handjax.inference.commitment import find_commitments, summarise_commitments
from handjax.inference.generate import Generator, Wish
from handjax.perception import DetectedHand
from tests.diffusion.sd_tiny import tiny_model

SIZE, STEPS = (16, 32), 25
HAND = np.random.default_rng(0).uniform(0, 16, (21, 3)).astype(np.float32)


class Script:
    """Finds a hand from a step on that jumps once, and none in the second picture."""

    def __init__(self, appears, jumps):
        self.seen, self.appears, self.jumps = [], appears, jumps

    def detect(self, picture):
        step, number = len(self.seen) % STEPS, len(self.seen) // STEPS
        self.seen.append(picture)
        if number or step < self.appears:
            return []
        return [DetectedHand.from_landmarks("right", 0.9, HAND + 3 * (step >= self.jumps), HAND)]


@pytest.mark.slow
def test_the_hands_of_every_step_are_read():
    model = tiny_model()
    generator = Generator(model, DDIM(model.schedule, STEPS), SIZE, 3.0, batch=2)
    wishes = [Wish("a fist", seed=1), Wish("a hand", seed=2)]
    script = Script(appears=5, jumps=12)
    found = list(find_commitments(generator, script, wishes))
    timesteps = generator.sampler.trajectory().timesteps
    assert [one.timesteps for one in found] == [[timesteps[12]], []]
    assert found[0].hands == [0] * 5 + [1] * (STEPS - 5)
    pictures = dict(generator(wishes))
    for one in found:  # the last estimate is the picture, but for the noise DDIM ends with
        assert np.abs(one.estimates[-1].astype(int) - pictures[one.wish]).mean() < 8
        assert np.abs(one.estimates[0].astype(int) - one.estimates[-1]).mean() > 10

    figures = summarise_commitments(generator, found)
    assert (figures["pictures"], figures["hands"], figures["without_hand"]) == (2, 1, 1)
    alpha = model.schedule.alphas_cumprod[int(timesteps[12])]
    assert figures["snr_db"] == pytest.approx(10 * np.log10(alpha / (1 - alpha)), abs=1e-3)
    assert figures["t"] == timesteps[12] and figures["window"] == (timesteps[12] - 100, timesteps[12] + 100)
    assert summarise_commitments(generator, found[1:]) == {"pictures": 1, "hands": 0, "without_hand": 1}


@pytest.mark.slow
def test_too_few_steps_to_compare_are_refused():
    model = tiny_model()
    generator = Generator(model, DDIM(model.schedule, 10), SIZE)
    with pytest.raises(ConfigError, match="--steps is 10: skeletons are compared over 50 timesteps"):
        next(find_commitments(generator, Script(0, 0), [Wish("a fist")]))
