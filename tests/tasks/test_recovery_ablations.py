"""Every ablation of MMHMR that takes a training changes what its row names, and nothing else."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.recovery.masking import draw_masks
from handjax.recovery.network import RecoveryConfig, RecoveryNetwork, example_inputs
from handjax.recovery.tokenizer import save_tokenizer
from handjax.recovery.vit import ViTConfig
from handjax.tasks import make_task
from handjax.tasks.mesh_recovery import fields_of_hands
from handjax.training.config import load_config
from launch.paper_tables.recovery_rows import CODES, FULL, RECOVERY_TABLES, TOKENS, Recovery
from tests.recovery import tiny_models

SETTINGS = {
    row.setting.name: row.setting
    for table in RECOVERY_TABLES
    for row in table.rows
    if isinstance(row.setting, Recovery)
}
PICTURES = 2


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(tiny_models.random_tokenizer(), path)
    return path


def network(**fields):
    sizes = tiny_models.NETWORK | {"layers": 2, "graph_blocks": 2, "head_layers": 2} | fields
    encoder = ViTConfig(**tiny_models.ENCODER)
    return RecoveryNetwork(RecoveryConfig(tokens=16, codes=tiny_models.CODES, encoder=encoder, **sizes))


@functools.cache
def shapes(**fields):
    """Names and shapes of parameters."""
    made = network(**fields)
    params = jax.eval_shape(made.init, jax.random.key(0), *example_inputs(made))["params"]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves(params)}


def leaves(tree):
    return jax.tree_util.tree_leaves_with_path(tree)


def parts(names):
    return {name.split("/")[0] for name in names}


@pytest.mark.parametrize(
    ("field", "gone", "new"),
    [
        ({"graph_blocks": 0}, {"graph_0", "graph_1"}, set()),
        ({"scales": (1,)}, {"pyramid_1"}, set()),
        ({"scales": (1, 4, 8, 16)}, set(), {"pyramid_2", "pyramid_3"}),
        ({"layers": 4}, set(), {"layers_2", "layers_3"}),
        ({"use_cue": False}, set(), set()),
    ],
    ids=("graph_blocks", "fewer scales", "more scales", "layers", "use_cue"),  # a set's words have no order
)
def test_switches_take_away_or_add_the_part_that_they_name(field, gone, new):
    before, after = shapes(), shapes(**field)
    assert parts(before) - parts(after) == gone and parts(after) - parts(before) == new
    changed = {name for name in before.keys() & after.keys() if before[name] != after[name]}
    # what samples the maps has as many weights as there are maps
    assert all("cross_attention" in name for name in changed) and bool(changed) == ("scales" in field)


def test_maps_have_the_scales_that_are_asked_for():
    scales = 1, 8, 16
    made = network(scales=scales)
    inputs = example_inputs(made)
    params = jax.eval_shape(made.init, jax.random.key(0), *inputs)
    context = jax.eval_shape(lambda p: made.apply(p, inputs[0], method="encode"), params)
    assert [[value.shape[1:3] for value in layer] for layer in context.values] == [
        [(16 * scale, 12 * scale) for scale in scales]
    ] * 2


def random_params(made):
    rng = np.random.default_rng(0)
    params = jax.eval_shape(made.init, jax.random.key(0), *example_inputs(made))["params"]
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.2, leaf.shape), jnp.float32), params)


def pictures():
    return jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (PICTURES, 256, 256, 3)), jnp.float32)


def test_without_the_x_attention_head_shape_and_camera_are_read_from_the_mean_of_the_map():
    made = network(head_layers=0, layers=0, scales=(1,))
    params = random_params(made)
    assert params["shape_head"].keys() == {"betas", "camera"}
    features, context = jax.jit(
        lambda p, x: made.apply({"params": p}, x, method=lambda net, x: (net.backbone(x), net.encode(x)))
    )(params, pictures())
    flat = np.float64(features).reshape(PICTURES, -1, tiny_models.ENCODER["width"])
    weights = jax.tree.map(np.float64, params)
    mean = (flat @ weights["head_map"]["kernel"] + weights["head_map"]["bias"]).mean(axis=1)
    for name, start in (("betas", 0), ("camera", [9.0, 0.0, 0.06])):
        layer = weights["shape_head"][name]
        np.testing.assert_allclose(getattr(context, name), mean @ layer["kernel"] + layer["bias"] + start, atol=1e-4)
    assert np.ptp(np.asarray(context.betas), axis=0).max() > 1e-3  # of one picture and of the other


def test_without_ggpm_keypoint_nodes_change_nothing_and_with_it_they_do():
    changes = {}
    for blocks in (0, 1):
        made = network(graph_blocks=blocks, layers=1, scales=(1,))
        params = random_params(made)
        cue = jnp.full((PICTURES, 21, 3), 0.2)
        tokens = jnp.full((PICTURES, 16), tiny_models.CODES)
        run = jax.jit(
            lambda p, made=made, tokens=tokens, cue=cue: made.apply({"params": p}, pictures(), tokens, cue)[0]
        )
        moved = {**params, "cue_places": params["cue_places"] + 1.0}
        changes[blocks] = float(jnp.abs(run(moved) - run(params)).max())
    assert changes[0] == 0 and changes[1] > 1e-3


def task_of(name, tokenizer):
    """The task of a row, on networks as small as can be."""
    small = {f"encoder.{field}": value for field, value in tiny_models.ENCODER.items()}
    small |= {f"network.{field}": value for field, value in tiny_models.NETWORK.items()} | {"tokenizer": tokenizer}
    words = [*(f"{field}={value}" for field, value in small.items()), *SETTINGS[name].training.overrides]
    return make_task(load_config("mmhmr.py:tiny", [f"--config.{word}" for word in words]))


def batch_of(hands):
    """Of hands at rest whose meshes are known."""
    batch = {name: jnp.zeros((hands, *spec.shape), spec.dtype) for name, spec in fields_of_hands(256).items()}
    weights = jnp.ones((hands, 21))
    return batch | {"mesh_known": jnp.ones(hands, bool), "keypoints_weight": weights, "keypoints_confidence": weights}


MOST = {"most-0.3": 0.3, "most-0.5": 0.5, "full": 0.7, "most-1.0": 1.0}


def test_rows_of_masking_hide_tokens_of_their_own_range(tokenizer):
    assert {name: task_of(name, tokenizer).corruption.most for name in MOST} == MOST
    task, keys = task_of("most-0.3", tokenizer), jax.random.split(jax.random.key(5), 64)
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), jax.eval_shape(task.init, jax.random.key(0))[0])
    counted = jax.jit(lambda keys: task.loss(params, task.frozen(), {}, batch_of(64), keys)[0]["mask"][1])(keys)
    drawn = jax.vmap(jax.random.split, out_axes=1)(keys)[0]
    hidden = [np.asarray(draw_masks(drawn, 16, most)).sum(axis=1) for most in MOST.values()]
    assert float(counted) == hidden[0].sum() and hidden[0].min() >= 16 * np.cos(np.pi / 2 * 0.3)
    assert sorted((numbers.min() for numbers in hidden), reverse=True) == [15, 12, 8, 1]


LOSSES_OFF = {
    "full": set(),
    "mask-betas": {"rotation", "joints_3d", "joints_2d"},
    "mask-mano-betas": {"joints_3d", "joints_2d"},
    "3d-betas": {"mask", "rotation", "joints_2d"},
}


@pytest.mark.parametrize("name", LOSSES_OFF)
def test_losses_that_a_row_does_not_name_weigh_nothing(tokenizer, name):
    papers = {"mask": 1.0, "rotation": 1e-3, "betas": 5e-4, "joints_3d": 5e-2, "joints_2d": 1e-2}
    expected = {loss: 0.0 if loss in LOSSES_OFF[name] else weight for loss, weight in papers.items()}
    assert task_of(name, tokenizer).loss_weights == expected


@pytest.mark.slow
def test_what_only_one_loss_teaches_is_not_taught_without_it(tokenizer):
    """The camera is seen by L_2D alone; of a hand whose shape is right, the shape by the places of joints alone."""
    task = task_of("full", tokenizer)
    params, keys = random_params(task.network), jax.random.split(jax.random.key(5), PICTURES)
    batch = batch_of(PICTURES) | {"image": pictures()}

    @jax.jit
    def slopes(weights):
        def objective(params):
            terms = task.loss(params, task.frozen(), {}, batch, keys)[0]
            return sum(weights[name] * total / weight for name, (total, weight) in terms.items())

        return jax.tree.map(lambda leaf: jnp.abs(leaf).max(), jax.grad(objective)(params))

    for name in LOSSES_OFF:
        found = slopes(task_of(name, tokenizer).loss_weights)
        assert (found["shape_head"]["camera"]["kernel"] > 0) == (name == "full"), name
        assert found["logits"]["kernel"] > 0 and found["shape_head"]["betas"]["kernel"] > 0, name


SIZES = {(count, "2048×256"): training for count, training in TOKENS.items()}
SIZES |= {(64, size): training for size, training in CODES.items()}


@pytest.mark.parametrize(("tokens", "codes"), SIZES)
def test_tokens_and_codes_are_as_many_as_the_row_says(tokens, codes):
    training = SIZES[tokens, codes]
    task = make_task(load_config(training.recipe, [f"--config.{word}" for word in training.overrides]))
    count, dim = map(int, codes.split("×"))
    _, state = jax.eval_shape(task.init, jax.random.key(0))
    assert state["vq"]["sums"].shape == (count, dim)
    latents = jax.eval_shape(
        lambda key: task.network.init_with_output(key, jnp.zeros((1, 16, 3, 3)), method="encode")[0], jax.random.key(0)
    )
    assert latents.shape == (1, tokens, dim)


def test_each_row_changes_the_fields_that_it_names_and_no_other():
    base = flat(load_config(FULL.training.recipe, [f"--config.{word}" for word in FULL.training.overrides]))
    for setting in SETTINGS.values():
        if setting.training is None or setting.training == FULL.training:
            continue
        named = {word.partition("=")[0] for word in setting.training.overrides}
        changed = flat(
            load_config(setting.training.recipe, [f"--config.{word}" for word in setting.training.overrides])
        )
        differ = {name for name in base | changed if base.get(name) != changed.get(name)}
        assert differ == named - ({"network.layers"} if changed["network.layers"] == 4 else set()), setting.name
        assert differ or setting.tokenizer != FULL.tokenizer, setting.name


def flat(config, prefix=""):
    """Fields by their dotted names."""
    found = {}
    for name, value in config.items():
        found |= flat(value, f"{prefix}{name}.") if hasattr(value, "items") else {f"{prefix}{name}": value}
    return found
