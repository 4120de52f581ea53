"""Small PyTorch models whose weights make every branch count, and the same weights for Flax."""

import jax
import numpy as np
import pytest

from handjax.weights.names import to_flax

torch = pytest.importorskip("torch")

UNET_1 = {
    "in_channels": 9,
    "block_out_channels": (32, 64, 96),
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 2,
    "attention_head_dim": 4,
    "cross_attention_dim": 24,
    "norm_num_groups": 8,
}
UNET_2 = {
    **UNET_1,
    "in_channels": 4,
    "layers_per_block": 1,
    "attention_head_dim": (2, 4, 8),
    "use_linear_projection": True,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
}
VAE = {
    "block_out_channels": (16, 32, 48),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "layers_per_block": 2,
    "norm_num_groups": 8,
}
TEXT = {
    "vocab_size": 99,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 20,
    "bos_token_id": 97,
    "eos_token_id": 98,
}


def redraw(model, seed=0):
    """Draws all weights anew: norms, biases and zero-initialised layers too, or a branch could be wrong unseen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                parameter.copy_(0.2 * noise + (1.0 if name.endswith("weight") else 0.0))
            else:
                parameter.copy_(noise / np.sqrt(parameter[0].numel()))
    return model.eval()


def flax_variables(model):
    """The Flax variables with the weights of a PyTorch model."""
    return {"params": to_flax((name, value.numpy()) for name, value in model.state_dict().items())}


def to_nchw(x):
    return torch.from_numpy(np.array(x).transpose(0, 3, 1, 2).copy())


def to_nhwc(x):
    return x.detach().numpy().transpose(0, 2, 3, 1)


def normal(shape, seed):
    return jax.random.normal(jax.random.key(seed), shape)


def assert_equal_outputs(ours, theirs, bound=1e-4):
    """Equal in float32 up to the order of sums, on an output that is not trivially small."""
    assert np.std(theirs) > 0.1
    np.testing.assert_allclose(np.asarray(ours), theirs, atol=bound, rtol=0)
