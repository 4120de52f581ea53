"""The anatomy guide against its equation, on a toy perception whose gradient is known, and on the real one."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import handjax
from handjax.anatomy.features import measure
from handjax.anatomy.penalty import anatomy_penalty
from handjax.diffusion.inpainting import Painter
from handjax.diffusion.samplers import DDIM, DPMSolver
from handjax.diffusion.sampling import sample, steered
from handjax.diffusion.schedules import NoiseLevel, NoiseSchedule
from handjax.guidance import anatomy, seeing
from handjax.guidance.anatomy import AnatomyGuide, AnatomySettings
from handjax.images import read_image, resize
from handjax.perception.detector import TASK_FILE
from handjax.perception.flax_backend import HandWeights, load_weights
from handjax.perception.landmarks import Hands
from handjax.perception.regions import Region
from tests.diffusion.sd_tiny import tiny_model

PHOTO = Path(handjax.__file__).parent / "assets" / "photos" / "nocurl.jpg"
RNG = np.random.default_rng(0)
HAND = RNG.normal(size=(21, 3))
MIX = 0.1 * RNG.normal(size=(27, 63))
BACK = 0.3 * RNG.normal(size=(3, 3))
TIMESTEP, SIGMA = 700.0, 2.0
PRESENCE = {"presence": 0.9}
TEXT = jnp.zeros((2, 1, 1))  # the guide does not read it


def decode(latents):
    """Twice as large, three channels in [-1, 1]."""
    return jnp.repeat(jnp.repeat(jnp.tanh(0.3 * latents), 2, axis=1), 2, axis=2)


def denoise(z, level):
    return z / jnp.sqrt(1 + level.sigma**2) + 0.1 * jnp.sin(z @ BACK)


def toy_world(pixels):
    """Keypoints in space of a 6×6 picture's pixels in [0, 255]."""
    cells = pixels.reshape(6, 6, 3)[::2, ::2].reshape(27) / 255
    return HAND + (cells @ MIX).reshape(21, 3)


@pytest.fixture
def toy(monkeypatch):
    """A perception that finds a hand in every picture whose first pixel is not black, surely a right one."""

    def find(weights, picture, hands, min_score):
        count = jnp.arange(hands)
        return Region(jnp.ones((hands, 2)), jnp.ones(hands), jnp.zeros(hands)), (count == 0) & (
            picture.pixels[0, 0] > 0
        )

    def read(weights, picture, region, min_score):
        world = toy_world(picture.pixels)
        flat = jnp.concatenate([world[:, :2], jnp.zeros((21, 1))], axis=1)
        presence = weights.landmark["presence"] * jnp.ones(())
        return Hands(flat, world, presence, jnp.ones(()), presence > min_score)

    monkeypatch.setattr(seeing, "find_regions", find)
    monkeypatch.setattr(anatomy, "read_hand", read)
    return AnatomyGuide(HandWeights({}, PRESENCE), AnatomySettings(scale=0.7, normalize=False, keep=0.0))


def call(guide, z, timestep=TIMESTEP, log=None, **settings):
    guide = guide.replace(settings=dataclasses.replace(guide.settings, **settings))
    level = NoiseLevel(jnp.float32(timestep), jnp.float32(SIGMA))
    x0 = denoise(z, level)
    return guide.steer(decode)(guide.start(z) if log is None else log, z, level, x0, denoise), x0


def noise(batch=2, seed=1):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(batch, 3, 3, 3)), jnp.float32)


def difference_quotients(loss, z, step=1e-2):
    """The gradient of `loss` by central differences."""
    gradient = np.zeros(z.shape)
    for place in np.ndindex(*z.shape):
        delta = np.zeros(z.shape)
        delta[place] = step
        gradient[place] = (float(loss(jnp.float32(z + delta))) - float(loss(jnp.float32(z - delta)))) / (2 * step)
    return gradient


@pytest.mark.parametrize("through", ["denoiser", "latent"])
def test_the_guide_is_the_papers_equation_with_the_sign_that_descends(toy, through):
    (log, guided), x0 = call(toy, noise(batch=1), through=through)
    z = np.asarray(noise(batch=1))
    wide = np.sqrt(1 + SIGMA**2)
    frozen = z - np.asarray(denoise(z, NoiseLevel(TIMESTEP, SIGMA))) / wide

    @jax.jit
    def loss(z):
        x0 = denoise(z, NoiseLevel(TIMESTEP, SIGMA)) if through == "denoiser" else wide * (z - frozen)
        return anatomy_penalty(measure(toy_world(255 * (decode(x0) / 2 + 0.5)), jnp.array(True)))

    gradient = difference_quotients(loss, z)
    penalty = float(loss(z))
    # z = (x0 + σ·ε) / √(1 + σ²), and σ_t = √(1 - ᾱ_t) = σ / √(1 + σ²)
    sigma_t = SIGMA / wide
    noise_before, noise_after = ((wide * z - np.asarray(x)) / SIGMA for x in (x0, guided))
    wanted = noise_before + 0.7 * sigma_t * gradient
    assert np.abs(wanted - noise_before).max() > 0.02
    np.testing.assert_allclose(noise_after, wanted, atol=0.02 * np.abs(wanted - noise_before).max())
    assert float(log.first_penalty[0]) == pytest.approx(penalty, rel=1e-4)


def test_the_normalised_gradient_moves_the_noise_by_the_scale(toy):
    z = noise()
    (_, guided), x0 = call(toy, z, normalize=True, scale=0.25)
    moved = np.asarray(x0 - guided) / SIGMA
    sizes = np.sqrt((moved**2).mean(axis=(1, 2, 3)))
    np.testing.assert_allclose(sizes, 0.25 * SIGMA / np.sqrt(1 + SIGMA**2), rtol=1e-4)
    (_, raw), _ = call(toy, z)
    direction = np.asarray(x0 - raw)
    np.testing.assert_allclose(
        np.sum(moved * direction, axis=(1, 2, 3)) ** 2,
        np.sum(moved**2, axis=(1, 2, 3)) * np.sum(direction**2, axis=(1, 2, 3)),
        rtol=1e-4,
    )


def test_steps_outside_the_window_and_between_pushes_change_nothing(toy):
    z = noise()
    for timestep in (613.9, 814.1):
        (log, guided), x0 = call(toy, z, timestep)
        np.testing.assert_array_equal(guided, x0)
        assert log.visited == 0 and not log.pushed.any() and not log.missed.any()
    log, moved = None, []
    for step in range(5):
        (log, guided), x0 = call(toy, z, 618.0 - step, log, every=2)
        moved.append(bool((np.asarray(guided) != x0).any()))
    assert moved == [True, False, True, False, True]
    assert log.visited == 5 and log.pushed.tolist() == [3, 3]


def test_a_miss_leaves_its_picture_and_is_counted(toy):
    z = noise().at[1, 0, 0].set(-1000)  # black: no palm
    (log, guided), x0 = call(toy, z)
    np.testing.assert_array_equal(guided[1], x0[1])
    assert np.abs(np.asarray(guided - x0)[0]).max() > 1e-3
    assert (log.pushed.tolist(), log.missed.tolist()) == ([1, 0], [0, 1])
    told = toy.tell(log)
    assert told[1] == {"pushed": 0, "missed": 1, "penalty": None} and told[0]["penalty"][0] > 0

    doubtful = toy.replace(weights=HandWeights({}, {"presence": 0.49}))  # a palm, but the landmark network sees no hand
    (log, guided), x0 = call(doubtful, z)
    np.testing.assert_array_equal(guided, x0)
    assert log.missed.tolist() == [1, 1]


def test_a_gradient_that_is_no_number_is_a_miss(toy, monkeypatch):
    monkeypatch.setattr(anatomy, "hand_penalty", lambda hand: jnp.sqrt(hand.world[0, 0] - hand.world[0, 0]))
    (log, guided), x0 = call(toy, noise())
    np.testing.assert_array_equal(guided, x0)
    assert log.missed.tolist() == [1, 1]


def test_a_followed_hand_is_not_looked_for_again(toy):
    z = noise()
    (log, _), _ = call(toy, z)
    assert log.followed.all()
    (log, _), _ = call(toy, z.at[:, 0, 0].set(-1000), TIMESTEP - 1, log)
    assert log.pushed.tolist() == [2, 2] and not log.missed.any()


def test_what_is_computed_again_for_the_gradient_changes_no_push(toy):
    z = noise()

    def push(z, remat):
        return call(toy, z, remat=remat)[0][1]

    np.testing.assert_allclose(push(z, "blocks"), push(z, "none"), atol=1e-6)
    programs = {remat: str(jax.make_jaxpr(lambda z, remat=remat: push(z, remat))(z)) for remat in ("none", "blocks")}
    assert programs["blocks"].count(" tanh ") > programs["none"].count(" tanh ")  # `decode` has one, once more here
    assert [programs[remat].count("= remat2[") for remat in ("none", "blocks")] == [0, 2]


@pytest.mark.slow
def test_a_batch_is_its_pictures(toy):
    z = noise(3).at[2, 0, 0].set(-1000)
    (log, together), _ = call(toy, z, normalize=True, hands=2)
    for i in range(3):
        (own, alone), _ = call(toy, z[i : i + 1], normalize=True, hands=2)
        np.testing.assert_allclose(together[i], alone[0], atol=1e-6)
        assert int(own.pushed[0]) == int(log.pushed[i])


def test_the_presence_term_holds_the_hand(toy, monkeypatch):
    """Where the penalty is flat, the push raises the presence."""
    monkeypatch.setattr(anatomy, "hand_penalty", lambda hand: 0 * hand.presence)
    brightness = lambda picture: jax.nn.sigmoid(picture.pixels.mean() / 100)  # noqa: E731

    def read(weights, picture, region, min_score):
        presence = brightness(picture)
        return Hands(jnp.asarray(HAND, jnp.float32), jnp.asarray(HAND, jnp.float32), presence, jnp.ones(()), True)

    monkeypatch.setattr(anatomy, "read_hand", read)
    z = noise(1)
    (_, guided), x0 = call(toy, z, keep=1.0, scale=20.0)
    assert float(decode(guided).mean()) > float(decode(x0).mean()) + 1e-3
    (_, guided), x0 = call(toy, z, keep=0.0)
    np.testing.assert_array_equal(guided, x0)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [DDIM, DPMSolver])
def test_a_sampler_with_a_window_it_never_visits_is_the_sampler_without(toy, sampler):
    sampler = sampler(NoiseSchedule(), 10)
    z = noise()
    plain, _ = sample(sampler, denoise, z, jax.random.key(0))
    away = toy.replace(settings=dataclasses.replace(toy.settings, window=(0.2, 0.4)))
    same, log = sample(sampler, denoise, z, jax.random.key(0), **steered(away, decode, TEXT, z))
    np.testing.assert_allclose(plain, same, rtol=0, atol=1e-6)  # two programs may round otherwise
    assert not log.pushed.any()
    inside, log = sample(sampler, denoise, z, jax.random.key(0), **steered(toy, decode, TEXT, z))
    visited = sum(614 <= t <= 814 for t in sampler.trajectory().timesteps)
    assert log.pushed.tolist() == [visited] * 2 and visited >= 2
    assert np.abs(np.asarray(plain - inside)).max() > 1e-3
    again, _ = sample(sampler, denoise, z, jax.random.key(0), **steered(toy, decode, TEXT, z))
    np.testing.assert_array_equal(inside, again)


@pytest.mark.slow
def test_recurrences_push_the_same_step_again(toy):
    sampler = DDIM(NoiseSchedule(), 10)
    thrice = toy.replace(settings=dataclasses.replace(toy.settings, recurrences=3))
    z = noise()
    one, once = sample(sampler, denoise, z, jax.random.key(0), **steered(toy, decode, TEXT, z))
    latents, log = sample(sampler, denoise, z, jax.random.key(0), **steered(thrice, decode, TEXT, z))
    assert (log.pushed == once.pushed).all() and np.isfinite(latents).all()
    assert np.abs(np.asarray(latents - one)).max() > 1e-3


@pytest.fixture(scope="module")
def real():
    return AnatomyGuide(load_weights(TASK_FILE), AnatomySettings(scale=0.01, through="latent"))


@pytest.mark.slow
@pytest.mark.parametrize("cells", [None, 80])
def test_the_penalty_of_a_stretched_hand_falls(real, cells):
    """The latents are the pixels of a photograph that is pulled long, so that the fingers' lengths are wrong."""
    image = resize(read_image(PHOTO), (140, 70))[:, :]
    pixels = np.pad(image, ((0, 0), (35, 35), (0, 0)), mode="edge")
    latents = jnp.asarray(pixels / 127.5 - 1, jnp.float32)[None]
    guide = real.replace(settings=dataclasses.replace(real.settings, cells=cells))
    steer = jax.jit(lambda log, x: guide.steer(lambda x: x)(log, x, LEVEL, x, lambda z, level: z))
    log, penalties = guide.start(latents), []
    for _ in range(6):
        log, latents = steer(log, latents)
        penalties.append(float(log.last_penalty[0]))
    assert log.pushed.tolist() == [1]  # it is one step that is taken again and again
    assert penalties[-1] < 0.6 * penalties[0]


LEVEL = NoiseLevel(jnp.float32(TIMESTEP), jnp.float32(1.0))


@pytest.mark.slow
def test_an_empty_picture_is_a_miss_for_the_real_perception(real):
    latents = jnp.zeros((1, 96, 96, 3))
    log, guided = real.steer(lambda x: x)(real.start(latents), latents, LEVEL, latents, lambda z, level: z)
    assert log.missed.tolist() == [1]
    np.testing.assert_array_equal(guided, latents)


@pytest.mark.slow
def test_an_inpainting_model_is_guided_inside_its_mask(toy, monkeypatch):
    def read(weights, picture, region, min_score):
        world = HAND + picture.pixels.mean() / 255 * MIX[0].reshape(21, 3)
        return Hands(world, world, jnp.float32(0.9), jnp.ones(()), True)

    monkeypatch.setattr(anatomy, "read_hand", read)
    model = tiny_model()
    rng = np.random.default_rng(2)
    images = jnp.asarray(rng.uniform(-1, 1, (1, 16, 16, 3)), jnp.float32)
    mask = jnp.zeros((1, 16, 16, 1)).at[:, :, :4].set(1)
    context, empty = jnp.split(model.embed(["a hand", ""]), 2)
    noise = jnp.asarray(rng.normal(size=(1, 8, 8, 4)), jnp.float32)
    painter = Painter(DDIM(model.schedule, 10), 3.0)
    inputs = (model, images, mask, context, empty, noise, jax.random.key(0))
    guide = toy.replace(settings=dataclasses.replace(toy.settings, normalize=True))
    plain, guided = jax.jit(painter)(*inputs), jax.jit(painter)(*inputs, steering=guide)
    change = np.abs(np.asarray(plain - guided)).max(axis=(0, 1, 3))
    assert change[:4].max() > 0.05
    # the autoencoder's mixing carries a little of the change across the picture
    assert change[14:].max() < 0.5 * change[:4].max()
