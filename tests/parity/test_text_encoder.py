"""The text encoder against PyTorch transformers with the same random weights."""

import jax
import pytest

from handjax.diffusion.configs import TextConfig
from handjax.diffusion.text_encoder import TextEncoder
from handjax.weights.names import check_tree
from tests.parity.sd_models import TEXT, assert_equal_outputs, flax_variables, redraw, torch


@pytest.mark.parametrize("hidden_act", ["quick_gelu", "gelu"])
def test_last_hidden_state(hidden_act):
    from transformers import CLIPTextConfig, CLIPTextModel

    peer = redraw(CLIPTextModel(CLIPTextConfig(**TEXT, hidden_act=hidden_act)))
    ours, variables = TextEncoder(TextConfig.from_diffusers(peer.config.to_dict())), flax_variables(peer)
    ids = jax.random.randint(jax.random.key(0), (3, 20), 0, 99)
    check_tree(variables["params"], jax.eval_shape(ours.init, jax.random.key(0), ids)["params"], "peer")
    with torch.no_grad():
        expected = peer(torch.tensor(ids.tolist())).last_hidden_state.numpy()
    assert_equal_outputs(jax.jit(ours.apply)(variables, ids), expected)
