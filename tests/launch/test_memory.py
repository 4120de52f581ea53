"""Freed memory goes back to the system after long compilations, and only then."""

import types

import jax
import jax.numpy as jnp
import pytest
from jax import monitoring

from launch import memory


@pytest.fixture
def trims(monkeypatch):
    """How often malloc_trim was called, by a listener that is removed afterwards."""
    calls = []
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: types.SimpleNamespace(malloc_trim=calls.append))
    registered = []
    monkeypatch.setattr(monitoring, "register_event_duration_secs_listener", registered.append)
    memory.return_memory_after_compiling()
    yield calls, registered[0]


def test_long_compilations_give_memory_back(trims):
    calls, listener = trims
    listener(memory.COMPILED, 2 * memory.LONG_SECONDS, fun_name="unet")
    assert calls == [0]
    listener(memory.COMPILED, memory.LONG_SECONDS / 2)
    listener("/jax/some/other/duration", 10.0)
    assert calls == [0]


def test_jax_tells_of_compilations_under_this_name():
    seen = []

    def listen(event, seconds, **_):
        seen.append((event, seconds))

    monitoring.register_event_duration_secs_listener(listen)
    try:
        jax.jit(lambda x: jnp.sin(x) * 17)(1.0)
    finally:
        monitoring.unregister_event_duration_listener(listen)
    assert [seconds > 0 for event, seconds in seen if event == memory.COMPILED]


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    monkeypatch.setattr(monitoring, "register_event_duration_secs_listener", lambda listener: pytest.fail("registered"))
    memory.return_memory_after_compiling()
