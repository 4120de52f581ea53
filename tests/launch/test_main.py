"""The `handjax` command knows every command and nothing else."""

import os
from pathlib import Path

import jax
import pytest

import launch
from launch.main import COMMANDS, main

OTHERS = {"main", "metrics_peer", "peer_memory", "pyrender_peer"}
"""Started as programs too, but not by users."""


def test_every_module_that_can_be_started_is_a_command():
    started = {path.stem for path in Path(launch.__file__).parent.glob("*.py") if '"__main__"' in path.read_text()}
    assert set(COMMANDS) == started - OTHERS
    assert list(COMMANDS) == sorted(COMMANDS)


def test_tests_use_the_compile_cache_of_the_commands():
    assert jax.config.jax_compilation_cache_dir == os.environ["JAX_COMPILATION_CACHE_DIR"]


def test_another_name_lists_the_commands(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["handjax", "trian"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("no command 'trian'; usage") and "train" in said
