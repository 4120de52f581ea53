"""MMHMR's second stage on random tiny networks: what is hidden, what is learnt from, what is computed once."""

import dataclasses
import json
import re
import sys

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.errors import ConfigError, WeightsError
from handjax.hand.camera import PinholeCamera, project
from handjax.hand.model import load_open_hand, pose_hand
from handjax.hand.rotations import axis_angle_to_matrix
from handjax.perception import DetectedHand
from handjax.perception.efficientnet import EfficientNetLite0, load_params
from handjax.recovery.camera import crop_places, crop_translation, project_to_crop, reference_points
from handjax.recovery.decoding import ranked
from handjax.recovery.files import load_recovery
from handjax.recovery.masking import draw_masks
from handjax.recovery.network import RecoveryConfig, RecoveryNetwork, example_inputs
from handjax.recovery.tokenizer import save_tokenizer
from handjax.recovery.vit import ViTConfig, with_imagenet_maps
from handjax.tasks import make_task
from handjax.tasks.mesh_recovery import expected_codes, geometry_losses
from handjax.training.config import load_config
from handjax.training.loop import train
from handjax.training.optimizer import make_optimizer
from handjax.training.state import create_state
from handjax.training.step import make_train_step
from launch import export
from launch.reconstruct import load_reconstructor
from tests.recovery.tiny_models import CODES, ENCODER, NETWORK, random_tokenizer

BATCH = 3
FIELDS = {"encoder": ENCODER, "network": NETWORK}
FIELDS_OF_A_RUN = {"batch_size": BATCH, "eval_every": 2, "eval_batches": 1, "preview_every": 0, "checkpoint.every": 2}
KEYS = jax.random.split(jax.random.key(5), BATCH)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(random_tokenizer(), path)
    return path


def _task(folder, *more):
    small = [f"--config.{part}.{name}={value}" for part, fields in FIELDS.items() for name, value in fields.items()]
    return make_task(load_config("mmhmr.py:tiny", [*small, f"--config.tokenizer={folder}", *more]))


@pytest.fixture(scope="module")
def task(folder):
    return _task(folder)


@pytest.fixture(scope="module")
def params(task):
    return task.init(jax.random.key(2))[0]


@pytest.fixture(scope="module")
def batch():
    """Random pictures of posed hands; the last has no mesh and no places in space."""
    rng = np.random.default_rng(0)
    pose = rng.normal(0, 0.4, (BATCH, 16, 3)).astype(np.float32)
    hand = jax.vmap(lambda p: pose_hand(load_open_hand(), p, jnp.zeros(10), jnp.zeros(3)))(pose)
    known = np.array([True, True, False])
    arrays = {
        "image": rng.uniform(-1, 1, (BATCH, 256, 256, 3)).astype(np.float32),
        "pose": pose,
        "betas": np.zeros((BATCH, 10), np.float32),
        "mesh_known": known,
        "keypoints": rng.uniform(64, 192, (BATCH, 21, 2)).astype(np.float32),
        "keypoints_confidence": rng.integers(0, 2, (BATCH, 21)).astype(np.float32),
        "keypoints_weight": rng.uniform(0, 1, (BATCH, 21)).astype(np.float32),
        "keypoints_3d": np.asarray(hand.keypoints - hand.keypoints[:, :1]),
        "keypoints_3d_known": np.broadcast_to(known[:, None], (BATCH, 21)),
        "box_side": np.full(BATCH, 128, np.float32),
    }
    return jax.tree.map(jnp.asarray, arrays)


@pytest.fixture(scope="module")
def loss(task):
    return jax.jit(lambda params, batch: task.loss(params, task.frozen(), {}, batch, KEYS))


def test_the_cross_entropy_is_that_of_hidden_tokens(folder, batch, params, loss):
    task = _task(folder, "--config.corruption.cue_dropout=1.0")
    total, weight = jax.jit(task.loss)(params, task.frozen(), {}, batch, KEYS)[0]["mask"]
    hidden = np.array(draw_masks(jax.vmap(jax.random.split, out_axes=1)(KEYS)[0], 16, 0.7))
    hidden[2] = True
    tokens = task.reader.tokenize(task.frozen(), batch["pose"])
    assert tokens.shape == (BATCH, 16) and len(np.unique(tokens)) > 1
    logits, _ = task.network.apply(
        {"params": params}, batch["image"], jnp.where(hidden, CODES, tokens), jnp.zeros((BATCH, 21, 3))
    )
    shares = np.exp(np.float64(logits))
    shares /= shares.sum(-1, keepdims=True)
    places = [(b, i) for b in (0, 1) for i in range(16) if hidden[b, i]]
    assert float(weight) == len(places)
    expected = -sum(np.log(shares[b, i, tokens[b, i]]) for b, i in places)
    assert float(total) == pytest.approx(expected, rel=1e-4)
    everything = dataclasses.replace(task, corruption=dataclasses.replace(task.corruption, all_tokens=True))
    assert float(jax.jit(everything.loss)(params, task.frozen(), {}, batch, KEYS)[0]["mask"][1]) == 32


def test_pictures_without_a_mesh_teach_by_their_keypoints_alone(batch, params, loss):
    other = batch | {"pose": np.array(batch["pose"]), "keypoints": np.array(batch["keypoints"])}
    other["pose"][2] += 1
    before, after = loss(params, batch)[0], loss(params, other)[0]
    for name, term in before.items():
        np.testing.assert_array_equal(term, after[name], err_msg=name)
    other["keypoints"][2] += 10
    moved = loss(params, other)[0]
    assert moved["joints_2d"][0] != before["joints_2d"][0] and moved["rotation"][0] == before["rotation"][0]


def test_geometry_is_summed_over_joints_and_scaled_to_the_paper_s_batch(task, batch, params):
    made, _ = jax.jit(
        lambda p, b: task.reader.recover(p, task.frozen(), b["image"], jnp.zeros((BATCH, 21, 3)), KEYS[0])
    )(params, batch)
    terms = {name: float(total / weight) for name, (total, weight) in geometry_losses(made, batch, task.hand).items()}
    truth = np.float64(axis_angle_to_matrix(batch["pose"]))
    joints = np.float64(made.posed.keypoints)
    places = np.float64(project_to_crop(made.posed.keypoints, made.camera))
    expected = dict.fromkeys(terms, 0.0)
    for b in range(BATCH):
        if batch["mesh_known"][b]:
            expected["rotation"] += ((made.rotations[b] - truth[b]) ** 2).sum()
            expected["betas"] += ((made.betas[b] - batch["betas"][b]) ** 2).sum()
            expected["joints_3d"] += np.abs(joints[b] - joints[b, 0] - batch["keypoints_3d"][b]).sum()
        away = np.abs(places[b] - (batch["keypoints"][b] / 256 - 0.5)).sum(axis=1)
        expected["joints_2d"] += np.float64(batch["keypoints_weight"][b]) @ away  # also of those that cannot be seen
    for name, value in expected.items():
        assert terms[name] == pytest.approx(float(48 * value / BATCH), rel=1e-3), name
    elsewhere = batch | {"keypoints_3d": batch["keypoints_3d"] + 1}  # the mesh is known, or nothing
    assert geometry_losses(made, elsewhere, task.hand)["joints_3d"][0] == pytest.approx(
        float(geometry_losses(made, batch, task.hand)["joints_3d"][0])
    )
    alone = elsewhere | {"mesh_known": jnp.zeros(BATCH, bool)}
    assert geometry_losses(made, alone, task.hand)["joints_3d"][0] > 48 * 2 * 21
    assert task.loss_weights == {"mask": 1.0, "rotation": 1e-3, "betas": 5e-4, "joints_3d": 5e-2, "joints_2d": 1e-2}


def test_hidden_tokens_are_their_expected_codes_and_have_a_gradient():
    logits, codebook = jax.random.normal(jax.random.key(0), (1, 4, 5)), jax.random.normal(jax.random.key(1), (5, 3))
    tokens, hidden = jnp.array([[0, 1, 2, 3]]), jnp.array([[True, False, True, False]])
    codes = expected_codes(logits, tokens, hidden, codebook)
    shares = np.exp(np.float64(logits[0, 0])) / np.exp(np.float64(logits[0, 0])).sum()
    np.testing.assert_allclose(codes[0, 0], shares @ np.float64(codebook), rtol=1e-5)
    np.testing.assert_array_equal(codes[0, 1], codebook[1])
    slopes = jax.grad(lambda x: jnp.square(expected_codes(x, tokens, hidden, codebook)).sum())(logits)
    assert (np.abs(slopes[0]).sum(-1) > 0).tolist() == [True, False, True, False]


def test_five_iterations_cost_little_more_than_one():
    """The encoder stands before the loop; XLA counts a loop's body once, so that of ViT-H is counted by itself."""
    network = RecoveryNetwork(RecoveryConfig())
    images, tokens, cue = example_inputs(network)
    params = jax.eval_shape(network.init, jax.random.key(0), images, tokens, cue)
    context = jax.eval_shape(lambda p: network.apply(p, images, method="encode"), params)

    def flops(method, *inputs):
        run = jax.jit(lambda params, *inputs: network.apply(params, *inputs, method=method))
        return run.lower(params, *inputs).cost_analysis()["flops"]

    encoding, iteration = flops("encode", images), flops("predict", tokens, cue, context)
    assert encoding > 2e11
    assert (encoding + 5 * iteration) / (encoding + iteration) < 1.05


def test_the_encoder_is_called_once(task, batch, params):
    def run(params, images):
        return task.reader.recover(params, task.frozen(), images, jnp.zeros((BATCH, 21, 3)), KEYS[0])[1].tokens

    program = jax.make_jaxpr(run)(params, batch["image"])
    (loop,) = [equation for equation in program.eqns if equation.primitive.name == "scan"]
    inside, outside = str(loop.params["jaxpr"]), str(program)
    assert "conv_general_dilated" not in inside
    over_pictures = re.findall(r":f32\[\d+(?:,\d+){3}\] = conv_general_dilated", outside)
    assert len(over_pictures) == 1  # patches


def test_evaluation_measures_with_and_without_keypoints(task, batch, params):
    terms = jax.jit(task.evaluate)(params, task.frozen(), {}, batch, KEYS)
    assert {"pa_mpjpe_mm", "pa_mpvpe_mm_alone", "pck_0.1", "confidence_alone", *task.loss_weights} <= terms.keys()
    assert float(terms["pa_mpjpe_mm"][1]) == 2 and all(np.isfinite(total) for total, _ in terms.values())
    picture = jax.jit(task.preview)(params, task.frozen(), {}, batch, KEYS)["recovered"]
    assert picture.shape == (3 * 256, 3 * 256, 3)


@pytest.mark.slow
def test_maps_of_efficientnet_stay_as_imagenet_has_taught_them(folder, batch):
    encoder = {"width": 12, "depth": 1, "heads": 3, "stem": "efficientnet"}
    network = RecoveryNetwork(RecoveryConfig(tokens=16, codes=CODES, encoder=ViTConfig(**encoder), **NETWORK))
    random = jax.jit(network.init)(jax.random.key(0), *example_inputs(network))["params"]
    params = {**random, "backbone": with_imagenet_maps(random["backbone"])}
    stem = params["backbone"]["patch_embed"]["efficientnet"]
    published = load_params()["params"]
    assert {"stem", "block_10"} <= stem.keys() <= published.keys() - {"head", "block_11"}
    images = jnp.asarray(batch["image"][:2, ::2, ::2])

    def features(params, pixels):
        return network.apply({"params": params}, pixels, method=lambda module, x: module.backbone(x))

    slopes = jax.jit(jax.grad(lambda p: jnp.square(features(p, images)).sum()))(params)["backbone"]["patch_embed"]
    assert all((slope == 0).all() for slope in jax.tree.leaves(slopes["efficientnet"]))
    assert (slopes["proj"]["kernel"] != 0).any()
    made, side = jax.jit(features)(params, images), jnp.asarray(images).at[:, :, :16].set(0).at[:, :, -16:].set(0)
    assert made.shape == (2, 8, 6, 12)
    np.testing.assert_array_equal(made, jax.jit(features)(params, side))  # the sides are not looked at
    maps = EfficientNetLite0().apply({"params": published}, (127.5 * images[:, :, 16:-16] + 0.5) / 128)[1]
    fine = [maps[2][:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    both = np.concatenate([*fine, maps[3]], axis=-1)
    _, kept = network.apply(
        {"params": params},
        images,
        method=lambda module, x: module.backbone(x),
        capture_intermediates=lambda module, _: module.name == "norm",
    )
    (normed,) = kept["intermediates"]["backbone"]["patch_embed"]["norm"]["__call__"]
    centred = both - both.mean(axis=-1, keepdims=True)
    expected = centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(normed, expected, atol=2e-3)


def test_a_decay_would_shrink_the_maps(folder):
    words = [f"--config.tokenizer={folder}", "--config.optim.weight_decay=1e-2"]
    with pytest.raises(ConfigError, match="would shrink EfficientNet-Lite0"):
        make_task(load_config("mmhmr.py:embedded", words))


@pytest.mark.slow
def test_training_learns_one_batch_by_heart(task, batch):
    tx, schedule = make_optimizer(load_config("mmhmr.py:tiny", ["--config.optim.lr=3e-3"]).optim, 40)
    state, step = create_state(task, tx, 0, with_ema=False), jax.jit(make_train_step(task, tx, schedule))
    reports = []
    for _ in range(40):
        state, metrics = step(state, task.frozen(), batch)
        reports.append({name: float(value) for name, value in metrics.items()})
    assert reports[-1]["mask"] < 0.6 * reports[0]["mask"]
    assert reports[-1]["joints_2d"] < reports[0]["joints_2d"]


@pytest.mark.parametrize(
    ("field", "gone"),
    [
        ("graph_blocks=0", {"graph_0"}),  # without GGPM
        pytest.param("scales=(1,)", {"pyramid_1"}, marks=pytest.mark.slow),  # without the upsampler
        pytest.param("layers=0", {"layers_0"}, marks=pytest.mark.slow),
        ("use_cue=False", set()),
    ],
)
def test_each_switch_removes_what_it_names(folder, task, params, batch, field, gone):
    switched = _task(folder, f"--config.network.{field}")
    images, tokens = jnp.asarray(batch["image"][:1]), jnp.full((1, 16), CODES)
    cues = [jnp.zeros((1, 21, 3)), jnp.full((1, 21, 3), 0.2)]
    own = jax.jit(switched.network.init)(jax.random.key(0), images, tokens, cues[0])
    assert set(params) - set(own["params"]) >= gone
    run = jax.jit(switched.network.apply)
    logits = [run(own, images, tokens, cue)[0] for cue in cues]
    assert np.allclose(*logits) == (field in ("use_cue=False",))


def test_ranks_are_another_way_of_decoding(task, batch, params):
    def tokens(rank):
        cue = jnp.zeros((BATCH, 21, 3))
        options = {"choose": ranked(rank), "iterations": 1}
        return task.reader.recover(params, task.frozen(), batch["image"], cue, KEYS[0], **options)[1].tokens

    assert (tokens(1) != tokens(2)).all()


def test_the_camera_is_a_pinhole_of_the_crop():
    points = jax.random.normal(jax.random.key(0), (21, 3)) * 0.05
    camera = jnp.array([5.0, 0.01, -0.02])
    pixels = project(
        PinholeCamera(jnp.full(2, 5000.0), jnp.full(2, 128.0)), points + jnp.array([0.01, -0.02, 2 * 5000 / (256 * 5)])
    )
    np.testing.assert_allclose((project_to_crop(points, camera) + 0.5) * 256, pixels, atol=1e-3)
    assert crop_translation(camera).shape == (3,)
    corners = jnp.array([[-0.375, -0.5], [0.375, 0.5], [0.0, 0.0]])  # of the columns that the network sees
    np.testing.assert_allclose(reference_points(corners), [[0, 0], [1, 1], [0.5, 0.5]], atol=1e-6)
    np.testing.assert_allclose(crop_places(reference_points(corners)), corners, atol=1e-6)


def test_a_trained_model_comes_back_with_its_own_tokenizer(folder, task, params, tmp_path):
    task.exports["handjax"](params, {}, tmp_path, np.dtype(np.float32))
    again = load_recovery(tmp_path)
    assert again.network == task.network
    jax.tree.map(np.testing.assert_array_equal, again.params, dict(params))
    other = task.tokenizer._replace(codebook=task.tokenizer.codebook + 1)
    save_tokenizer(other, tmp_path / "tokenizer")
    with pytest.raises(WeightsError, match="not the tokenizer that mmhmr.safetensors was trained with"):
        load_recovery(tmp_path)


def test_training_goes_on_from_exported_weights(folder, task, params, tmp_path):
    task.exports["handjax"](params, {}, tmp_path, np.dtype(np.float32))
    goes_on = _task(tmp_path / "tokenizer", f"--config.init_weights={tmp_path}")
    begun, _ = goes_on.init(jax.random.key(9))
    jax.tree.map(np.testing.assert_array_equal, begun, dict(params))
    shapes, _ = jax.eval_shape(goes_on.init, jax.random.key(9))  # as launch.export asks for them
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, begun)
    with pytest.raises(ConfigError, match="a network of other sizes; use the recipe it is of"):
        _task(folder, f"--config.init_weights={tmp_path}", "--config.network.layers=2").init(jax.random.key(9))
    other = task.tokenizer._replace(codebook=task.tokenizer.codebook + 1)
    save_tokenizer(other, tmp_path / "other")
    with pytest.raises(ConfigError, match="knows other tokens; set tokenizer to its folder tokenizer/"):
        _task(tmp_path / "other", f"--config.init_weights={tmp_path}").init(jax.random.key(9))


def test_what_does_not_fit_is_refused(folder, tmp_path):
    with pytest.raises(ConfigError, match="tokenizer is empty"):
        make_task(load_config("mmhmr.py:tiny"))
    with pytest.raises(WeightsError, match="no config.json"):
        _task(tmp_path)
    with pytest.raises(ConfigError, match="knows open_hand, data.hand_model is mano"):
        _task(folder, "--config.data.hand_model=mano")
    for field, said in (
        ("network.scales=(1,3)", r"scales=\(1, 3\) are not powers of 2"),  # the map would have been that of 4
        ("network.scales=()", "are not powers of 2"),
        ("network.heads=7", "network.heads=7 cannot share its"),
        ("encoder.heads=7", "encoder.heads=7 cannot share its"),
    ):
        with pytest.raises(ConfigError, match=said):
            _task(folder, f"--config.{field}")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text().replace('"width": 8', '"width": 9'))
    (tmp_path / "vq_mano.safetensors").write_bytes((folder / "vq_mano.safetensors").read_bytes())
    with pytest.raises(WeightsError, match="tensors do not fit config.json"):
        _task(tmp_path)


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_bits_and_is_exported(folder, batch, tmp_path, monkeypatch):
    more = [f"--config.{name}={value}" for name, value in FIELDS_OF_A_RUN.items()]
    task = _task(folder, *more)

    def load(split):
        rolled = [{name: np.roll(value, shift, axis=0) for name, value in batch.items()} for shift in range(BATCH)]
        return grain.MapDataset.source(rolled).repeat().to_iter_dataset()

    def run(name, steps):
        small = [f"--config.{part}.{key}={value}" for part, fields in FIELDS.items() for key, value in fields.items()]
        words = [*small, *more, f"--config.tokenizer={folder}", f"--config.steps={steps}"]
        return train(load_config("mmhmr.py:tiny", words), task, load, tmp_path / name)

    alone = run("alone", 4)
    run("cut", 2)
    resumed = run("cut", 4)
    assert int(resumed.step) == 4
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(resumed), jax.device_get(alone))
    lines = [line for line in map(json.loads, (tmp_path / "cut/metrics.jsonl").open()) if "eval/loss" in line]
    for line in lines:
        expected = sum(weight * line[f"eval/{name}"] for name, weight in task.loss_weights.items())
        assert line["eval/loss"] == pytest.approx(expected, rel=1e-5)
    assert [line["step"] for line in lines] == [0, 2, 4]
    words = ["--run", str(tmp_path / "cut"), "--to", "handjax", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["launch.export", *words])
    export.main()
    again = load_recovery(tmp_path / "out")
    assert again.network == task.network
    jax.tree.map(np.testing.assert_array_equal, again.params, jax.device_get(dict(resumed.params)))
    image = np.asarray(127.5 * (batch["image"][0] + 1)).astype(np.uint8)
    found = DetectedHand.from_landmarks(
        "right", 1.0, np.eye(21, 3, dtype=np.float32) * 128 + 64, np.zeros((21, 3), np.float32)
    )
    hands = [load_reconstructor(path).read(image, found) for path in (tmp_path / "cut", tmp_path / "out")]
    np.testing.assert_array_equal(hands[0].vertices, hands[1].vertices)
