"""Peak memory of one forward pass of PyTorch's in a process without JAX: run by `launch.bench sd`.

The one argument is JSON: the network's class with its module, its configuration, the method that is called and the
shapes of its inputs. Prints GiB.
"""

import importlib
import json
import resource
import sys


def main() -> None:
    """Makes the network, calls it once, prints the peak of the process."""
    request = json.loads(sys.argv[1])
    torch = importlib.import_module("torch")
    module, _, name = request["network"].partition(".")
    kind = getattr(importlib.import_module(module), name)
    document = request["document"]
    network = kind(kind.config_class(**document)) if module == "transformers" else kind(**document)
    numbers = {"float32": torch.float32, "int32": torch.int64}
    inputs = [torch.zeros(shape, dtype=numbers[dtype]) for shape, dtype in request["inputs"]]
    with torch.no_grad():
        getattr(network.eval(), request["method"])(*inputs)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20))


if __name__ == "__main__":
    main()
