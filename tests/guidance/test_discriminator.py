"""The discriminator's parts against writings in NumPy, and its files."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.errors import ConfigError, WeightsError
from handjax.guidance import discriminator
from handjax.guidance.diff_augment import change_colors, cut_hole, diff_augment, draw_hole, draw_shift, translate
from handjax.guidance.discriminator import (
    Discriminator,
    DiscriminatorConfig,
    Heads,
    head_shapes,
    hinge,
    level_features,
    load_backbone,
    load_discriminator,
    save_discriminator,
)
from handjax.guidance.spectral import initial_vectors, spectral_normalised
from handjax.perception.efficientnet import EfficientNetLite0, normalised

RNG = np.random.default_rng(0)


def draw(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def test_a_head_is_its_formula():
    """Two levels of 12 and 9 tokens; every parameter drawn."""
    features = (draw(2, 12, 6), draw(2, 9, 4))
    context = draw(2, 5, 7)
    shapes = jax.eval_shape(Heads().init, jax.random.key(0), features, context)["params"]
    params = jax.tree.map(lambda leaf: draw(*leaf.shape), shapes)
    logits = Heads().apply({"params": params}, features, context)
    params, features, context = jax.tree.map(np.float64, (params, features, context))
    text = context.mean(axis=1) @ params["text"]["kernel"] + params["text"]["bias"]

    def activate(x, norm):
        x = (x - x.mean(axis=2, keepdims=True)) / np.sqrt(x.var(axis=2, keepdims=True) + 1e-5)
        x = x * norm["scale"] + norm["bias"]
        return np.where(x > 0, x, 0.2 * x)

    for level, tokens in enumerate(features):
        head = params[f"heads_{level}"]
        x = activate(tokens @ head["conv1"]["kernel"] + head["conv1"]["bias"], head["norm1"])
        # token n sees n - 4 to n + 4, round and round
        around = sum(np.roll(x, 4 - k, axis=1) @ head["conv2"]["kernel"][k] for k in range(9)) + head["conv2"]["bias"]
        x = (x + activate(around, head["norm2"])) / np.sqrt(2)
        projected = x @ head["project"]["kernel"] + head["project"]["bias"]
        wanted = (projected * text[:, None]).sum(axis=-1) / 8
        np.testing.assert_allclose(logits[level], wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())


def test_the_hinge_loss_counts_levels_alike():
    logits = (jnp.array([[2.0, 0.5, -1.0, 0.5]]), jnp.array([[-3.0]]))
    assert float(hinge(logits, real=True)[0]) == pytest.approx(((0 + 0.5 + 2 + 0.5) / 4 + 4) / 2)
    assert float(hinge(logits, real=False)[0]) == pytest.approx(((3 + 1.5 + 0 + 1.5) / 4 + 0) / 2)


def test_dinos_class_token_is_added_to_all_others(monkeypatch):
    seen = []

    class FakeDINO:
        def apply(self, variables, images):
            seen.append(images)
            return None, tuple(jnp.float32(block + np.arange(3)[:, None] * np.ones((2, 3, 4))) for block in range(13))

    monkeypatch.setattr(discriminator, "DINO", FakeDINO)
    levels = level_features(DiscriminatorConfig(), None, jnp.full((2, 224, 224, 3), -0.5))
    # entry and after blocks 2, 5, 8, 11; block 2 is the third
    assert [float(level[0, 0, 0]) for level in levels] == [2 * block + 1 for block in (0, 3, 6, 9, 12)]
    assert all(level.shape == (2, 2, 4) for level in levels)
    np.testing.assert_allclose(seen[0], 0.25)


def test_dinos_levels_have_a_token_a_patch():
    shapes = head_shapes(DiscriminatorConfig())
    assert shapes["heads_4"]["conv2"]["kernel"].shape == (9, 384, 384) and "heads_5" not in shapes
    assert shapes["text"]["kernel"].shape == (768, 64)


def test_efficientnet_sees_pixels_as_it_was_trained_with():
    config = DiscriminatorConfig("efficientnet_lite0", 32, 8)
    image = np.random.default_rng(1).integers(0, 256, (1, 32, 32, 3), np.uint8)
    params = load_backbone(config)
    levels = jax.jit(level_features, static_argnums=0)(config, params, jnp.float32(image) / 127.5 - 1)
    _, maps = jax.jit(EfficientNetLite0().apply)({"params": params}, normalised(image))
    assert [level.shape[1:] for level in levels] == [(64, 24), (16, 40), (4, 112)]
    for level, wanted in zip(levels, maps[1:4], strict=True):
        np.testing.assert_allclose(level, wanted.reshape(level.shape), atol=1e-4 * np.abs(wanted).max())


def test_spectral_norms_become_one():
    params = {
        "a": {"kernel": draw(5, 3), "bias": draw(3)},
        "b": {"kernel": draw(9, 4, 6)},
        "left": {"kernel": draw(2, 2)},
    }
    vectors = initial_vectors(jax.random.key(0), {name: params[name] for name in ("a", "b")})
    assert set(vectors) == {"a", "b"}
    for _ in range(100):
        made, vectors = spectral_normalised(params, vectors)
    for name, matrix in (("a", made["a"]["kernel"]), ("b", made["b"]["kernel"].reshape(36, 6))):
        largest = np.linalg.svd(np.asarray(matrix, np.float64), compute_uv=False)[0]
        assert largest == pytest.approx(1, abs=1e-3), name
    np.testing.assert_array_equal(made["left"]["kernel"], params["left"]["kernel"])
    np.testing.assert_array_equal(made["a"]["bias"], params["a"]["bias"])


def test_one_power_iteration_and_its_gradient():
    arrays = draw(5, 3), draw(3), draw(5, 3)
    kernel, u, weights = (np.float64(array) for array in arrays)
    v = kernel @ u / np.linalg.norm(kernel @ u)
    after = kernel.T @ v / np.linalg.norm(kernel.T @ v)
    made, vectors = spectral_normalised({"a": {"kernel": arrays[0]}}, {"a": {"u": arrays[1]}})
    np.testing.assert_allclose(vectors["a"]["u"], after, rtol=1e-5)
    sigma = v @ kernel @ after
    np.testing.assert_allclose(made["a"]["kernel"], kernel / sigma, rtol=1e-5)

    def total(kernel):
        made, _ = spectral_normalised({"a": {"kernel": kernel}}, {"a": {"u": arrays[1]}})
        return (arrays[2] * made["a"]["kernel"]).sum()

    # the vectors count as given: d(W/σ) = dW/σ - W·(vᵀ dW u)/σ²
    wanted = weights / sigma - (weights * kernel).sum() / sigma**2 * np.outer(v, after)
    np.testing.assert_allclose(jax.grad(total)(arrays[0]), wanted, rtol=1e-3, atol=1e-5)


def test_colours_are_changed_one_after_the_other():
    image = RNG.uniform(-1, 1, (4, 4, 3))
    wanted = image + 0.3
    grey = wanted.mean(axis=2, keepdims=True)
    wanted = (wanted - grey) * 1.7 + grey
    wanted = (wanted - wanted.mean()) * 0.6 + wanted.mean()
    np.testing.assert_allclose(change_colors(jnp.float32(image), jnp.array([0.3, 1.7, 0.6])), wanted, atol=1e-5)


def test_a_picture_is_moved_and_a_hole_cut():
    image = RNG.uniform(1, 2, (16, 16, 3)).astype(np.float32)
    moved = np.zeros_like(image)
    moved[2:, :-1] = image[:-2, 1:]
    np.testing.assert_array_equal(translate(jnp.asarray(image), jnp.array([2, -1])), moved)
    holed = image.copy()
    holed[1:9, 0:5] = 0  # 8 × 8 about row 5 and column 1
    np.testing.assert_array_equal(cut_hole(jnp.asarray(image), jnp.array([5, 1])), holed)
    keys = jax.random.split(jax.random.key(0), 300)
    shifts = jax.vmap(lambda key: draw_shift(key, 16))(keys)
    assert (int(shifts.min()), int(shifts.max())) == (-2, 2)
    middles = jax.vmap(lambda key: draw_hole(key, 16))(keys)
    assert (int(middles.min()), int(middles.max())) == (0, 16)


def test_each_picture_is_augmented_by_its_own_key():
    images = jnp.asarray(RNG.uniform(-1, 1, (3, 16, 16, 3)), jnp.float32)
    keys = jax.random.split(jax.random.key(1), 3)
    together = diff_augment(images, keys)
    np.testing.assert_allclose(diff_augment(images[1:2], keys[1:2])[0], together[1], atol=1e-6)
    assert np.abs(np.asarray(diff_augment(images[1:2], keys[:1])[0] - together[1])).max() > 0.1
    slope = jax.grad(lambda images: diff_augment(images, keys).sum())(images)
    assert np.abs(np.asarray(slope)).max() > 0


def test_a_discriminator_is_read_back_with_its_backbone(tmp_path):
    config = DiscriminatorConfig("efficientnet_lite0", 32, 8)
    params = jax.tree.map(lambda leaf: draw(*leaf.shape), head_shapes(config))
    save_discriminator(tmp_path, config, params)
    assert json.loads((tmp_path / "config.json").read_text()) == dataclasses.asdict(config)
    read = load_discriminator(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, read.params, params)
    crops, context = jnp.float32(RNG.uniform(-1, 1, (2, 32, 32, 3))), draw(2, 3, 8)
    score = jax.jit(lambda d, crops: d(crops, context))(read, crops)
    features = jax.jit(level_features, static_argnums=0)(config, read.backbone_params, crops)
    logits = Heads().apply({"params": params}, features, context)
    wanted = np.mean([np.asarray(level).mean(axis=1) for level in logits], axis=0)
    np.testing.assert_allclose(score, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())
    assert isinstance(read, Discriminator) and read.size == 32


def test_what_is_missing_or_does_not_fit_is_said_in_a_line(tmp_path):
    config = DiscriminatorConfig("efficientnet_lite0", 32, 8)
    with pytest.raises(WeightsError, match="no config.json; give the folder of an exported discriminator"):
        load_discriminator(tmp_path)
    params = jax.tree.map(lambda leaf: draw(*leaf.shape), head_shapes(config))
    save_discriminator(tmp_path, dataclasses.replace(config, text_channels=9), params)
    with pytest.raises(WeightsError, match="tensors do not fit config.json"):
        load_discriminator(tmp_path)
    (tmp_path / "config.json").write_text('{"backbone": "resnet", "image_size": 32, "text_channels": 8}')
    with pytest.raises(ConfigError, match="backbone='resnet' is unknown"):
        load_discriminator(tmp_path)
    with pytest.raises(ConfigError, match="image_size=100 does not fit"):
        DiscriminatorConfig(image_size=100)
    with pytest.raises(ConfigError, match="dino_vits16 needs its weights; download"):
        load_backbone(DiscriminatorConfig())
