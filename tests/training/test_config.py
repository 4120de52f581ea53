"""Recipes: defaults, variants, overrides, and one-line errors that name the field."""

import pytest

from handjax.errors import ConfigError
from handjax.training.config import config_name, load_config, read_config

TOY = "tests/training/toy_config.py"


def test_recipe_inherits_the_common_fields_and_keeps_its_own():
    config = load_config(TOY)
    assert (config.optim.lr, config.optim.b2) == (1e-2, 0.999)
    assert (config.checkpoint.every, config.seed, config.features) == (10, 0, 6)


def test_variant_is_handed_to_the_recipe():
    assert load_config(f"{TOY}:slow").data.delay > load_config(TOY).data.delay == 0


def test_overrides_are_typed():
    config = load_config(
        TOY, ["--config.steps=7", "--config.optim.lr=1", "--config.debug=True", "--config.data.path=007"]
    )
    assert (config.steps, config.optim.lr, config.debug, config.data.path) == (7, 1.0, True, "007")
    assert isinstance(config.optim.lr, float)


@pytest.mark.parametrize(
    ("spec", "override", "expected"),
    [
        (TOY, "--config.optim.lrr=1", "did you mean 'optim.lr'"),
        (TOY, "--config.step=1", "unknown field 'step'; did you mean 'steps'"),
        (TOY, "--config.steps=2.5", "steps takes int"),
        (TOY, "--config.debug=1", "debug takes bool"),
        (TOY, "--config.batch_size=0", "batch_size=0 is too small"),
        (TOY, "--config.seed=-1", "seed=-1 does not fit"),
        (TOY, "--config.optim=1", "'optim' is a section"),
        (TOY, "--steps=1", "fields are set by --config.NAME=VALUE"),
        (f"{TOY}:smal", "--config.steps=1", "unknown variant 'smal'"),
        ("no_such.py", "--config.steps=1", "no_such.py: no such recipe"),
    ],
)
def test_mistakes_are_named_in_one_line(spec, override, expected):
    with pytest.raises(ConfigError, match=expected.replace("(", r"\(")) as caught:
        load_config(spec, [override])
    assert "\n" not in str(caught.value)


def test_variant_of_a_recipe_without_variants(tmp_path):
    recipe = tmp_path / "plain.py"
    recipe.write_text("import ml_collections\ndef get_config():\n    return ml_collections.ConfigDict({'steps': 3})\n")
    assert load_config(str(recipe)).steps == 3
    with pytest.raises(ConfigError, match="has no variants"):
        load_config(f"{recipe}:tiny")


def test_names_and_missing_runs(tmp_path):
    assert config_name("configs/sgm.py:tiny") == "sgm-tiny"
    with pytest.raises(ConfigError, match="no such file"):
        read_config(tmp_path)


def test_a_damaged_recipe_of_a_run_is_told(tmp_path):
    (tmp_path / "config.json").write_text('{"task": ')
    with pytest.raises(ConfigError, match="not the recipe of a run"):
        read_config(tmp_path)
