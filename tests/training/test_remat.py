"""What is computed again for the gradient, and that the gradient stays the same."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.diffusion.layers import ResnetBlock2D
from handjax.diffusion.transformer import BasicTransformerBlock
from handjax.errors import ConfigError
from handjax.training.remat import remat_policy


class Blocks(nn.Module):
    @nn.compact
    def __call__(self, x):
        for i in range(2):
            x = ResnetBlock2D(8, 4, 1e-5, name=f"resnet_{i}")(x)
        x = x.reshape(len(x), -1, 8)
        return BasicTransformerBlock(2, name="transformer")(x, x)


X = jnp.asarray(np.random.default_rng(0).standard_normal((1, 4, 4, 8), np.float32))
PARAMS = jax.eval_shape(Blocks().init, jax.random.key(0), X)


def _loss(params):
    return jnp.square(Blocks().apply(params, X)).sum()


def test_by_blocks_only_their_outputs_are_kept(capsys):
    jax.ad_checkpoint.print_saved_residuals(jax.checkpoint(_loss, policy=remat_policy("blocks")), PARAMS)
    kept = [line for line in capsys.readouterr().out.splitlines() if "argument" not in line and "constant" not in line]
    # the transformer's own output is the square's operand and needs no recomputation
    assert [line.split()[0] for line in kept if "named 'block'" in line][:2] == ["f32[1,4,4,8]"] * 2
    assert all("named 'block'" in line for line in kept)


def test_more_is_computed_again_the_less_is_kept():
    def products(policy):
        loss = _loss if policy is None else jax.checkpoint(_loss, policy=policy)
        program = str(jax.make_jaxpr(jax.grad(loss))(PARAMS))
        return program.count("conv_general_dilated["), program.count("dot_general[")

    convs, dots = products(remat_policy("none"))
    dots_convs, dots_dots = products(remat_policy("dots"))
    blocks_convs, blocks_dots = products(remat_policy("blocks"))
    assert dots_convs > convs and blocks_convs > convs
    assert dots <= dots_dots < blocks_dots


def test_unknown_policy():
    with pytest.raises(ConfigError, match="parallel.remat='half' is unknown"):
        remat_policy("half")
