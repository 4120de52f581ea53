"""Weights of a TensorFlow Lite graph as the parameters of a Linen module of the same architecture."""

import os
import zipfile
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import tflite
from flax.traverse_util import flatten_dict, unflatten_dict

from handjax.errors import WeightsError

_LAYERS = {
    tflite.BuiltinOperator.CONV_2D,
    tflite.BuiltinOperator.DEPTHWISE_CONV_2D,
    tflite.BuiltinOperator.FULLY_CONNECTED,
    tflite.BuiltinOperator.PRELU,
}
_DTYPES = {tflite.TensorType.FLOAT16: np.float16, tflite.TensorType.FLOAT32: np.float32}


def load_parameters(task: str | os.PathLike, member: str, module: nn.Module, image_size: int) -> dict[str, Any]:
    """Reads a network's parameters out of a MediaPipe `.task` file.

    The graph and the module execute the same layers in the same order; the n-th layer's weights go to the n-th layer.

    Args:
      task: the `.task` file, a zip archive of `.tflite` files.
      member: the network's name in the archive.
      module: the Linen module to fill.
      image_size: side of the square RGB input, pixels.

    Returns:
      The module's variables, {"params": ...}, float32.

    Raises:
      WeightsError: the file is missing or damaged, or its layers are not the module's.
    """
    try:
        with zipfile.ZipFile(task) as archive:
            layers = _graph_layers(archive.read(member))
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{task}: cannot read {member} ({error}); give a MediaPipe hand_landmarker.task") from error
    slots = _module_layers(module, image_size)
    if [[w.shape for w in weights.values()] for weights in slots.values()] != [[w.shape for w in ws] for ws in layers]:
        raise WeightsError(f"{task}: {member} is of another architecture than {type(module).__name__}")
    flat = {
        (*path, name): weight
        for (path, weights), values in zip(slots.items(), layers, strict=True)
        for name, weight in zip(weights, values, strict=True)
    }
    return {"params": unflatten_dict(flat)}


def _module_layers(module: nn.Module, image_size: int) -> dict[tuple[str, ...], dict[str, jax.ShapeDtypeStruct]]:
    """Layers with parameters in order of execution: path -> {"kernel", "bias"} or {"slope"} shapes."""
    order = []

    def record(call, args, kwargs, context):
        order.append(context.module.path)
        return call(*args, **kwargs)

    image = jax.ShapeDtypeStruct((1, image_size, image_size, 3), np.float32)
    with nn.intercept_methods(record):
        variables = jax.eval_shape(module.init, jax.random.key(0), image)
    shapes = flatten_dict(variables["params"])
    names = ("kernel", "bias", "slope")
    layers = {path: {name: shapes[*path, name] for name in names if (*path, name) in shapes} for path in order}
    return {path: weights for path, weights in layers.items() if weights}


def _graph_layers(data: bytes) -> list[list[np.ndarray]]:
    """Weights of each convolution, dense layer and PReLU of a `.tflite` graph, in Flax's layout."""
    model = tflite.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    constants: dict[int, np.ndarray] = {}
    layers = []
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        inputs = operator.InputsAsNumpy()
        if kind == tflite.BuiltinOperator.DEQUANTIZE:
            constants[operator.Outputs(0)] = _constant(model, graph.Tensors(inputs[0]))
        elif kind in _LAYERS:
            layers.append(_flax_layout(kind, [constants[i] for i in inputs[1:]]))
    return layers


def _constant(model: tflite.Model, tensor: tflite.Tensor) -> np.ndarray:
    values = model.Buffers(tensor.Buffer()).DataAsNumpy().view(_DTYPES[tensor.Type()])
    return values.astype(np.float32).reshape(tensor.ShapeAsNumpy())


def _flax_layout(kind: int, weights: list[np.ndarray]) -> list[np.ndarray]:
    if kind == tflite.BuiltinOperator.CONV_2D:  # out, height, width, in
        kernel = weights[0].transpose(1, 2, 3, 0)
        return [kernel[0, 0] if kernel.shape[:2] == (1, 1) else kernel, weights[1]]
    if kind == tflite.BuiltinOperator.DEPTHWISE_CONV_2D:  # 1, height, width, features
        return [weights[0].transpose(1, 2, 0, 3), weights[1]]
    if kind == tflite.BuiltinOperator.FULLY_CONNECTED:  # out, in
        return [weights[0].T, weights[1]]
    return [weights[0].reshape(-1)]
