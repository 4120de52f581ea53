"""MGHanD's guide against its equation, on a toy network and perception whose gradients are known."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.transforms import Augmentation, draw_window
from handjax.adapters.lora import LowRank
from handjax.diffusion.samplers import DDIM
from handjax.diffusion.sampling import sample, steered
from handjax.diffusion.schedules import NoiseLevel, NoiseSchedule
from handjax.guidance import mghand
from handjax.guidance.hand_mask import HandMask, MaskSettings
from handjax.guidance.mghand import MGHandGuide, MGHandSettings
from handjax.guidance.seeing import cut_square
from handjax.guidance.together import Together
from handjax.images import encode_png, resize
from handjax.perception.detector import TASK_FILE
from handjax.perception.flax_backend import HandWeights, load_weights

RNG = np.random.default_rng(0)
KERNEL, DOWN, UP = (np.float32(0.4 * RNG.normal(size=shape)) for shape in ((3, 3), (3, 2), (2, 3)))
CRITIC = np.float32(RNG.normal(size=(2, 2, 3)))
TIMESTEP, SIGMA = 400.0, 1.5
WIDE = np.sqrt(1 + SIGMA**2)
TEXT = jnp.float32(RNG.normal(size=(2, 3, 4)))
# tight boxes x0, y0, x1, y1 in pictures of 6×6: the first fills the cells (0, 0) and (1, 0) of 3×3
BOX, OTHER = (0.0, 0.0, 1.0, 2.4), (4.0, 4.0, 5.0, 5.0)
SCALE = 1.3


class Net(nn.Module):
    @nn.compact
    def __call__(self, z):
        return jnp.tanh(nn.Dense(3, use_bias=False, name="mix")(z))


class ToyCritic:
    """Scores the mean of each quarter of a crop, and the prompt."""

    size = 2

    def __call__(self, crops, context):
        return (crops * CRITIC).sum(axis=(1, 2, 3)) + context.mean(axis=(1, 2))


def decode(latents):
    """Twice as large, three channels inside [-1, 1]."""
    return jnp.repeat(jnp.repeat(jnp.tanh(0.3 * latents), 2, axis=1), 2, axis=2)


def denoise(z, level):
    return 0.5 * z + 0.3 * Net().apply({"params": {"mix": {"kernel": KERNEL}}}, z)


def adapted(z):
    merged = KERNEL + SCALE * DOWN @ UP
    return 0.5 * z + 0.3 * jnp.tanh(z @ merged)


@pytest.fixture
def toy(monkeypatch):
    """The first picture has a hand at BOX, the second none, until one of its pixels is white."""

    def look(weights, decode, x0, settings):
        boxes = jnp.tile(jnp.array([BOX, OTHER]), (len(x0), 1, 1))
        sees = jnp.stack([jnp.arange(len(x0)) == 0, (decode(x0) > 0.99).any(axis=(1, 2, 3))], axis=1)
        return boxes, sees

    def cut(image, center, side, size, longest):
        return image[:4, :4].reshape(2, 2, 2, 2, 3).mean(axis=(1, 3))

    monkeypatch.setattr(mghand, "look_for_hands", look)
    monkeypatch.setattr(mghand, "cut_square", cut)
    monkeypatch.setattr(mghand, "UNet", Net)
    settings = MGHandSettings(every=1, cells=None, mask=MaskSettings(every=2, dilation=0.0, cap=1.0))
    return MGHandGuide(HandWeights({}, {}), {("mix",): LowRank(DOWN, UP, SCALE)}, ToyCritic(), settings, 5, 2)


def call(guide, z, timestep=TIMESTEP, log=None, **settings):
    guide = guide.replace(settings=dataclasses.replace(guide.settings, **settings))
    level = NoiseLevel(jnp.float32(timestep), jnp.float32(SIGMA))
    x0 = denoise(z, level)
    log = guide.start(z) if log is None else log
    return guide.steer(decode, TEXT[: len(z)])(log, z, level, x0, denoise), x0


def noise(batch=2, seed=1):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(batch, 3, 3, 3)), jnp.float32)


def quotients(loss, z, step=1e-2):
    """The gradient of `loss` by central differences."""
    gradient = np.zeros(z.shape)
    for place in np.ndindex(*z.shape):
        delta = np.zeros(z.shape)
        delta[place] = step
        gradient[place] = (float(loss(jnp.float32(z + delta))) - float(loss(jnp.float32(z - delta)))) / (2 * step)
    return gradient


@pytest.mark.parametrize(
    ("textual", "visual", "through"), [(0.8, 0.0, "denoiser"), (0.0, 0.2, "denoiser"), (1.5, 0.3, "latent")]
)
def test_the_noise_moves_by_the_equation_inside_the_mask(toy, textual, visual, through):
    z = noise(batch=1)
    (log, guided), x0 = call(toy, z, textual=textual, visual=visual, through=through)
    mask = np.zeros((1, 3, 3, 1))
    mask[0, :2, 0] = 1
    plain, moved, with_adapter = ((WIDE * np.float64(z) - np.float64(x)) / SIGMA for x in (x0, guided, adapted(z)))

    @jax.jit
    def loss(noisy):
        clean = denoise(noisy, None) if through == "denoiser" else x0 + WIDE * (noisy - z)
        crop = (decode(clean)[0, :4, :4] / 2 + 0.5).reshape(2, 2, 2, 2, 3).mean(axis=(1, 3))
        score = ((2 * crop - 1) * CRITIC).sum() + TEXT[0].mean()
        return jnp.log1p(jnp.exp(-score))

    gradient = mask * quotients(loss, np.asarray(z))
    gradient *= np.linalg.norm(mask * plain) / np.linalg.norm(gradient)
    wanted = plain + mask * (textual * (with_adapter - plain) + visual * gradient)
    change = np.abs(wanted - plain).max()
    assert change > 0.02
    np.testing.assert_allclose(moved, wanted, atol=0.02 * change)
    np.testing.assert_array_equal(np.asarray(guided)[mask[..., 0] == 0], np.asarray(x0)[mask[..., 0] == 0])
    told = toy.tell(log)[0]
    assert told["log"][0]["loss"] == (pytest.approx(float(loss(z)), abs=2e-4) if visual else None)
    strength = np.linalg.norm(mask * textual * (with_adapter - plain)) / np.linalg.norm(mask * plain)
    assert told["log"][0]["textual"] == (pytest.approx(strength, abs=2e-4) if textual else None)
    assert (told["status"], told["steps"], told["log"][0]["t"]) == ("guided", 1, TIMESTEP)
    assert told["mask_area"] == told["log"][0]["mask_area"] == round(6 / 36, 4)  # 2 × 3 pixels


def test_the_visual_move_lowers_the_discriminators_loss(toy):
    z = noise(batch=1)
    (_, guided), x0 = call(toy, z, textual=0.0, visual=0.3, through="latent")
    crops = [(decode(x)[:, :4, :4]).reshape(1, 2, 2, 2, 2, 3).mean(axis=(2, 4)) for x in (x0, guided)]
    before, after = (float(ToyCritic()(crop, TEXT[:1])[0]) for crop in crops)
    assert after > before + 1e-3


def test_a_picture_without_a_hand_keeps_its_bits(toy):
    (log, guided), x0 = call(toy, noise())
    np.testing.assert_array_equal(guided[1], x0[1])
    assert np.abs(np.asarray(guided - x0)[0]).max() > 1e-3
    told = toy.tell(log)[1]
    assert (told["status"], told["steps"], told["mask_area"]) == ("no hand found", 0, 0.0)
    assert told["log"] == [{"t": TIMESTEP, "mask_area": 0.0, "textual": None, "loss": None}]


def test_steps_outside_the_window_change_nothing(toy):
    for timestep in (149.9, 650.1):
        (log, guided), x0 = call(toy, noise(), timestep)
        np.testing.assert_array_equal(guided, x0)
        assert toy.tell(log)[0]["status"] == "no step in the window"


def test_steps_between_make_the_last_move_again(toy):
    log, moves, losses = None, [], []
    for seed in (1, 2, 3, 4):
        (log, guided), x0 = call(toy, noise(seed=seed), TIMESTEP - seed, log, every=3)
        moves.append(np.asarray(guided - x0))
        losses.append(toy.tell(log)[0]["log"][-1]["loss"])
    np.testing.assert_allclose(moves[1:3], [moves[0]] * 2, atol=1e-6)
    assert np.abs(moves[3] - moves[0]).max() > 0.01 and not moves[0][1].any()
    assert losses[1:3] == [None, None] and losses[0] and losses[3]
    assert log.visited == 4 and log.pushed.tolist() == [4, 0]


def test_a_picture_is_not_moved_by_what_others_of_its_batch_show(toy):
    """A hand that shows after the others' moves have been worked out waits for the next time."""
    bright = noise().at[1, 0, 0].set(100)
    log, moved = None, []
    for step, z in enumerate((noise(), bright, bright, noise())):
        (log, guided), x0 = call(toy, z, TIMESTEP - step, log, every=3)
        moved.append(bool((np.asarray(guided) != x0)[1].any()))
    assert moved == [False, False, False, True]


def test_the_mask_grows_at_every_second_look_and_stays(toy):
    """A hand that shows in the second picture between two looks is seen at the next one, and not forgotten."""
    bright = noise().at[1, 0, 0].set(100)
    log, areas = None, []
    for step, z in enumerate((noise(), bright, bright, noise(), noise())):
        (log, guided), x0 = call(toy, z, TIMESTEP - step, log)
        areas.append(round(36 * float(log.mask.area[1])))
    assert areas == [0, 0, 4, 4, 4]
    assert (np.asarray(guided) != x0)[1].any()
    assert [entry["mask_area"] for entry in toy.tell(log)[1]["log"]] == [0.0, 0.0, *[round(4 / 36, 4)] * 3]


def test_without_the_mask_the_whole_picture_moves(toy):
    (_, guided), x0 = call(toy, noise(), masked=False, visual=0.0)
    np.testing.assert_allclose(guided[0], adapted(noise())[0], atol=1e-5)
    np.testing.assert_array_equal(guided[1], x0[1])


def test_what_is_left_out_moves_nothing(toy):
    for guide in (toy.replace(lora=None, critic=None), toy):
        weights = {} if guide is not toy else {"textual": 0.0, "visual": 0.0}
        (log, guided), x0 = call(guide, noise(), **weights)
        np.testing.assert_array_equal(guided, x0)
        assert log.pushed.tolist() == [0, 0]
        assert [told["status"] for told in guide.tell(log)] == ["hand found, nothing moved", "no hand found"]


def test_a_gradient_that_is_no_number_moves_nothing(toy):
    class Broken(ToyCritic):
        def __call__(self, crops, context):
            return jnp.sqrt(crops.sum(axis=(1, 2, 3)) - crops.sum(axis=(1, 2, 3)))

    (log, guided), x0 = call(toy.replace(critic=Broken()), noise())
    np.testing.assert_array_equal(guided, x0)
    assert log.pushed.tolist() == [0, 0]


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_recurrences_keep_what_is_away_from_hands(toy, eta):
    """On a network that mixes no cells, so that nothing but the guide's own noise could reach the others."""
    sampler, z = DDIM(NoiseSchedule(), 5, eta), noise()
    thrice = toy.replace(settings=dataclasses.replace(toy.settings, recurrences=3))
    run = lambda **steering: sample(sampler, denoise, z, jax.random.key(0), **steering)  # noqa: E731
    plain, _ = run()
    (guided, log), (once, _) = (run(**steered(guide, decode, TEXT, z)) for guide in (thrice, toy))
    hand = np.broadcast_to(log.mask.cells(2) > 0, z.shape)
    assert hand[0, :2, 0].all() and not hand[0, :, 1].any()
    # another program rounds otherwise, noise that is added as it is drawn above all
    np.testing.assert_allclose(np.asarray(guided)[~hand], np.asarray(plain)[~hand], rtol=0, atol=2.5e-7 + 1e-5 * eta)
    assert np.abs(np.asarray(guided - once))[hand].min() > 1e-5
    inside = sum(150 <= t <= 650 for t in sampler.trajectory().timesteps)
    assert log.pushed[0] == log.visited == inside


def test_recurrences_know_no_other_picture_of_the_batch(toy, monkeypatch):
    """One has its hand from the first look on, the other, which grows bright, from the second on."""

    def look(weights, decode, x0, settings):
        corner = decode(x0)[:, 0, 0].mean(axis=-1)
        sees = jnp.stack([corner > 0.0255, jnp.zeros(len(x0), bool)], axis=1)
        return jnp.tile(jnp.array([BOX, OTHER]), (len(x0), 1, 1)), sees

    monkeypatch.setattr(mghand, "look_for_hands", look)
    guide = toy.replace(steps=12, settings=dataclasses.replace(toy.settings, recurrences=3, every=2))
    sampler, keys = DDIM(NoiseSchedule(), 12), jax.random.split(jax.random.key(0), 2)

    def run(z, keys, text):
        pictures, log = sample(sampler, denoise, z, keys, **steered(guide, decode, text, z))
        return pictures, guide.tell(log)

    z = jnp.concatenate([noise(1, seed=4), noise(1, seed=3)])
    together, told = run(z, keys, TEXT)
    looks = [[step["mask_area"] > 0 for step in one["log"]] for one in told]
    assert looks[0][0] and not looks[1][0] and looks[1][-1]
    for n in range(2):
        alone, (said,) = run(z[n : n + 1], keys[n : n + 1], TEXT[n : n + 1])
        np.testing.assert_allclose(together[n], alone[0], atol=1e-6)
        assert told[n] == said


def test_nothing_of_a_step_leaves_the_program(toy, monkeypatch):
    """With the real perception, whose convolutions are in it."""
    monkeypatch.undo()
    monkeypatch.setattr(mghand, "UNet", Net)
    guide, level = toy.replace(weights=load_weights(TASK_FILE)), NoiseLevel(jnp.float32(TIMESTEP), jnp.float32(SIGMA))
    step = lambda z: guide.steer(decode, TEXT)(guide.start(z), z, level, denoise(z, level), denoise)  # noqa: E731
    program = str(jax.make_jaxpr(step)(noise()))
    assert program.count("conv_general_dilated") > 20 and "callback" not in program


@pytest.mark.parametrize("through", ["denoiser", "latent"])
def test_what_is_computed_again_for_the_gradient_changes_no_move(toy, through):
    z = noise()

    def push(z, remat):
        return call(toy, z, remat=remat, through=through)[0][1]

    np.testing.assert_allclose(push(z, "blocks"), push(z, "none"), atol=1e-6)
    programs = {remat: str(jax.make_jaxpr(lambda z, remat=remat: push(z, remat))(z)) for remat in ("none", "blocks")}
    assert [programs[remat].count("= remat2[") for remat in ("none", "blocks")] == [0, 1 + (through == "denoiser")]


def test_guides_together_are_one_after_the_other(toy):
    """Under the whole sampler; the second guide sees what the first has left."""
    sampler, z = DDIM(NoiseSchedule(), 5), noise()
    textual, visual = toy.replace(critic=None), toy.replace(lora=None)
    both = Together((textual, visual))
    run = lambda guide: sample(sampler, denoise, z, jax.random.key(0), **steered(guide, decode, TEXT, z))  # noqa: E731
    (together, carry), (one, _) = run(both), run(textual)
    assert np.abs(np.asarray(together - one)).max() > 1e-3
    level = NoiseLevel(jnp.float32(TIMESTEP), jnp.float32(SIGMA))
    x0 = denoise(z, level)
    _, first = textual.steer(decode, TEXT)(textual.start(z), z, level, x0, denoise)
    _, second = visual.steer(decode, TEXT)(visual.start(z), z, level, first, denoise)
    _, at_once = both.steer(decode, TEXT)(both.start(z), z, level, x0, denoise)
    np.testing.assert_allclose(at_once, second, atol=1e-6)
    assert len(both.tell(carry)) == 2 and both.tell(carry)[0]["status"] == "guided"
    visited = sum(150 <= t <= 650 for t in sampler.trajectory().timesteps)
    assert [entry["t"] for entry in both.tell(carry)[0]["log"]] == [
        t for t in sampler.trajectory().timesteps if 150 <= t <= 650
    ]
    assert visited >= 2 and both.repeats is None
    thrice = visual.replace(settings=dataclasses.replace(visual.settings, recurrences=3))
    repeats = Together((textual, thrice)).repeats
    later = NoiseLevel(jnp.float32(700.0), level.sigma)
    cells = np.ones((2, 3, 3, 1), int)
    np.testing.assert_array_equal(repeats(later, carry), cells)
    cells[0, :2, 0] = 3
    np.testing.assert_array_equal(repeats(level, carry), cells)


def test_the_crop_is_the_square_about_the_tight_box(toy, monkeypatch):
    """Read by the real resampler from a picture whose colours are its coordinates."""
    monkeypatch.undo()
    rows, columns = np.mgrid[:24, :24] / 12 - 1
    latents = jnp.float32(np.stack([columns, rows, 0 * rows], axis=-1))

    class Reader:
        size = 4

    guide = toy.replace(critic=Reader())
    for cells in (None, 20):
        crop = np.asarray(guide._crop(lambda x: x, latents, jnp.array([8.0, 9.0, 16.0, 13.0]), cells))
        # 1.5 × 8 = 12 pixels about (12, 11): pixels of 3, from 6 and 5, and the first pixel's centre is at 0.5
        np.testing.assert_allclose(crop[0, :, 0], np.array([7, 10, 13, 16]) / 12 - 1, atol=0.02)
        np.testing.assert_allclose(crop[:, 0, 1], np.array([6, 9, 12, 15]) / 12 - 1, atol=0.02)


@pytest.mark.parametrize("box", [(8.0, 9.0, 12.0, 13.0), (2.0, 9.0, 16.0, 20.0), (18.0, 0.0, 23.5, 4.0)])
def test_a_hand_is_seen_whole_whatever_is_decoded(toy, monkeypatch, box):
    """Squares of 10 cells hold the first and the third; for the second the whole picture is decoded."""
    monkeypatch.undo()
    latents = jnp.float32(np.random.default_rng(5).normal(size=(1, 24, 24, 3)))
    boxes = jnp.array([[box, (3.0, 12.0, 8.0, 15.0)]])
    mask = HandMask.empty(1, 24, 24, 2).replace(boxes=boxes)

    def slope(cells, *seen):
        guide = toy.replace(settings=dataclasses.replace(toy.settings, cells=cells), factor=1)
        return guide._slope(lambda z: z, TEXT[:1], mask.replace(seen=jnp.array([seen])), latents)

    for seen in ((True, False), (True, True)):
        whole, of_square = slope(None, *seen), slope(10, *seen)
        assert np.abs(whole[0]).max() > 1e-3
        np.testing.assert_allclose(of_square[0], whole[0], atol=1e-6)
        np.testing.assert_allclose(of_square[1], whole[1], rtol=1e-5)
    each = [slope(10, *seen) for seen in ((True, False), (False, True))]
    both = slope(10, True, True)
    for of_both, one, other in zip(both, *each, strict=True):
        np.testing.assert_allclose(of_both, (one + other) / 2, atol=1e-6)


@pytest.mark.parametrize("side", [48, 90, 180])
def test_a_crop_is_resampled_as_training_does(side):
    """Against the training's window of a record with the same hand, up to a twofold reduction."""
    rng = np.random.default_rng(side)
    picture = rng.uniform(0, 255, (side // 4, side // 4, 3)).astype(np.uint8)
    picture = resize(picture, (2 * side, 2 * side))
    record = picture[side // 2 : side // 2 + 4 * side // 3, side // 2 : side // 2 + 4 * side // 3]
    window = draw_window(len(record), 96, Augmentation((1.5, 1.5)), rng)
    wanted = window.photo(encode_png(record))
    center = jnp.full(2, side // 2 + len(record) / 2)
    crop = cut_square(jnp.float32(picture) / 127.5 - 1, center, jnp.float32(0.75 * len(record)), 96, 1.5 * len(picture))
    apart = np.abs(np.asarray(crop) - wanted)
    assert apart.mean() < 0.02 and apart.max() < 0.1
