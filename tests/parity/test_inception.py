"""FID's Inception-v3 against a PyTorch writing of the same network with random weights."""

import itertools

import jax
import numpy as np
import pytest

from handjax.errors import WeightsError
from handjax.metrics.inception import InceptionV3, load_inception
from handjax.weights.safetensors import write_tensors
from tests.parity.sd_models import torch

functional = torch.nn.functional
# Input and output channels and kernel of every convolution, (rows, columns), by block.
STEM = [("1a_3x3", 3, 32, 3, 3), ("2a_3x3", 32, 32, 3, 3), ("2b_3x3", 32, 64, 3, 3), ("3b_1x1", 64, 80, 1, 1)]
STEM.append(("4a_3x3", 80, 192, 3, 3))
FINE = [("1x1", 0, 64, 1, 1), ("5x5_1", 0, 48, 1, 1), ("5x5_2", 48, 64, 5, 5), ("3x3dbl_1", 0, 64, 1, 1)]
FINE += [("3x3dbl_2", 64, 96, 3, 3), ("3x3dbl_3", 96, 96, 3, 3)]


def blocks():
    """Block → [(name, in, out, height, width)], as the published state dict has them."""
    for letter, cin, pooled in (("b", 192, 32), ("c", 256, 64), ("d", 288, 64)):
        rows = [(n, c or cin, *rest) for n, c, *rest in FINE]
        yield f"5{letter}", [*rows, ("_pool", cin, pooled, 1, 1)]
    yield (
        "6a",
        [("3x3", 288, 384, 3, 3), ("3x3dbl_1", 288, 64, 1, 1), ("3x3dbl_2", 64, 96, 3, 3), ("3x3dbl_3", 96, 96, 3, 3)],
    )
    for letter, c in zip("bcde", (128, 160, 160, 192), strict=True):
        once = [("7x7_1", 768, c, 1, 1), ("7x7_2", c, c, 1, 7), ("7x7_3", c, 192, 7, 1)]
        sizes = ((1, 1), (7, 1), (1, 7), (7, 1), (1, 7))
        twice = [(f"7x7dbl_{i + 1}", c if i else 768, 192 if i == 4 else c, *size) for i, size in enumerate(sizes)]
        yield f"6{letter}", [("1x1", 768, 192, 1, 1), *once, *twice, ("_pool", 768, 192, 1, 1)]
    three = [("3x3_1", 768, 192, 1, 1), ("3x3_2", 192, 320, 3, 3), ("7x7x3_1", 768, 192, 1, 1)]
    yield "7a", [*three, ("7x7x3_2", 192, 192, 1, 7), ("7x7x3_3", 192, 192, 7, 1), ("7x7x3_4", 192, 192, 3, 3)]
    for letter, cin in (("b", 1280), ("c", 2048)):
        ends = [(f"{kind}{side}", 384, 384, *size) for kind in ("3x3_2", "3x3dbl_3") for side, size in SIDES]
        starts = [("1x1", cin, 320, 1, 1), ("3x3_1", cin, 384, 1, 1), ("3x3dbl_1", cin, 448, 1, 1)]
        yield f"7{letter}", [*starts, ("3x3dbl_2", 448, 384, 3, 3), *ends, ("_pool", cin, 192, 1, 1)]


SIDES = (("a", (1, 3)), ("b", (3, 1)))


def random_state():
    """A state dict with statistics under which every layer's output keeps its scale."""
    generator, state = torch.Generator().manual_seed(0), {}
    rows = [(f"Conv2d_{name}", *rest) for name, *rest in STEM]
    rows += [(f"Mixed_{block}.branch{name}", *rest) for block, convs in blocks() for name, *rest in convs]
    for name, cin, cout, height, width in rows:
        deviation = (2 / (cin * height * width)) ** 0.5
        state[f"{name}.conv.weight"] = torch.randn(cout, cin, height, width, generator=generator) * deviation
        for part, low, high in (("weight", 0.8, 1.2), ("bias", -0.1, 0.1), ("running_mean", -0.1, 0.1)):
            state[f"{name}.bn.{part}"] = torch.rand(cout, generator=generator) * (high - low) + low
        state[f"{name}.bn.running_var"] = torch.rand(cout, generator=generator) * 0.4 + 0.8
    state["fc.weight"] = torch.randn(1008, 2048, generator=generator) / 45
    state["fc.bias"] = torch.randn(1008, generator=generator)
    return state


class Peer:
    """The network in PyTorch's functions, reading the state dict by its names."""

    def __init__(self, state):
        self.state = state

    def conv(self, x, name, stride=1, padded=True):
        weight = self.state[f"{name}.conv.weight"]
        padding = [side // 2 if padded else 0 for side in weight.shape[2:]]
        x = functional.conv2d(x, weight, stride=stride, padding=padding)
        mean, variance, scale, bias = (
            self.state[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.relu(functional.batch_norm(x, mean, variance, scale, bias, eps=0.001))

    def chain(self, x, block, *names, last_stride=1):
        for name in names:
            stride = last_stride if name == names[-1] else 1
            x = self.conv(x, f"Mixed_{block}.branch{name}", stride, padded=stride == 1)
        return x

    def block(self, x, block):
        maximum = functional.max_pool2d(x, 3, stride=1, padding=1)
        mean = functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        pooled = maximum if block == "7c" else mean
        numbered = {
            "5": (("1x1",), ("5x5_1", "5x5_2"), ("3x3dbl_1", "3x3dbl_2", "3x3dbl_3")),
            "6": (("1x1",), [f"7x7_{i}" for i in (1, 2, 3)], [f"7x7dbl_{i}" for i in (1, 2, 3, 4, 5)]),
            "7": (
                ("1x1",),
                *(("3x3_1", f"3x3_2{side}") for side in "ab"),
                *(("3x3dbl_1", "3x3dbl_2", f"3x3dbl_3{side}") for side in "ab"),
            ),
        }
        halved = {
            "6a": (("3x3",), ("3x3dbl_1", "3x3dbl_2", "3x3dbl_3")),
            "7a": (("3x3_1", "3x3_2"), [f"7x7x3_{i}" for i in (1, 2, 3, 4)]),
        }
        if block in halved:
            maps = [self.chain(x, block, *names, last_stride=2) for names in halved[block]]
            return torch.cat([*maps, functional.max_pool2d(x, 3, 2)], 1)
        maps = [self.chain(x, block, *names) for names in numbered[block[0]]]
        return torch.cat([*maps, self.conv(pooled, f"Mixed_{block}.branch_pool")], 1)

    def __call__(self, images):
        x = self.conv((images - 128) / 128, "Conv2d_1a_3x3", 2, padded=False)
        x = self.conv(self.conv(x, "Conv2d_2a_3x3", padded=False), "Conv2d_2b_3x3")
        x = self.conv(functional.max_pool2d(x, 3, 2), "Conv2d_3b_1x1")
        x = functional.max_pool2d(self.conv(x, "Conv2d_4a_3x3", padded=False), 3, 2)
        for block, _ in blocks():
            x = self.block(x, block)
        return x.mean((2, 3))


@pytest.fixture(scope="module")
def state():
    return random_state()


def save_and_load(state, folder):
    """As PyTorch before 1.6 wrote it, as PyTorch writes it now, and in safetensors: all give the same."""
    paths = [folder / name for name in ("old.pth", "new.pth", "inception.safetensors")]
    torch.save(state, paths[0], _use_new_zipfile_serialization=False)
    torch.save(state, paths[1])
    write_tensors(paths[2], {name: value.numpy() for name, value in state.items()})
    first, *others = map(load_inception, paths)
    for other in others:
        jax.tree.map(np.testing.assert_array_equal, first, other)
    return first


def test_features_and_classes_with_random_weights(state, tmp_path):
    params, classes = save_and_load(state, tmp_path)
    images = np.random.default_rng(0).uniform(0, 255, (1, 299, 299, 3)).astype(np.float32)
    with torch.no_grad():
        expected = Peer(state)(torch.from_numpy(images.transpose(0, 3, 1, 2)))
        logits = expected @ state["fc.weight"].T
    got = jax.jit(InceptionV3().apply)(params, images)
    assert expected.std() > 0.01 and got.shape == (1, 2048)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * float(expected.max()))
    np.testing.assert_allclose(got @ classes, logits, rtol=0, atol=1e-5 * float(logits.abs().max()))


def test_a_file_of_another_network_is_told_in_a_line(state, tmp_path):
    for left_out, message in (
        ("fc.weight", "no tensor fc.weight"),
        ("Mixed_6c.branch1x1.bn.bias", "2 missing, first Mix"),
    ):
        kept = {name: value.numpy() for name, value in state.items() if name != left_out}
        write_tensors(tmp_path / "other.safetensors", kept)
        with pytest.raises(WeightsError, match=message):
            load_inception(tmp_path / "other.safetensors")


def test_the_written_state_has_the_published_number_of_tensors(state):
    convolutions = list(itertools.chain(STEM, *(convs for _, convs in blocks())))
    assert len(convolutions) == 94  # of torchvision's inception_v3 without its auxiliary classifier
    assert len(state) == 5 * 94 + 2
