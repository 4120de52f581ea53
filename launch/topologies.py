"""Devices to compile for: a TPU slice that is not there, or those of this machine."""

import importlib.util
import re
from collections.abc import Sequence

import jax

from handjax.errors import BackendError, ConfigError

GENERATIONS = ("v5e", "v5p", "v6e")
SHAPES = "https://docs.cloud.google.com/tpu/docs/system-architecture-tpu-vm"
_NAME = re.compile(rf"({'|'.join(GENERATIONS)}):\d+x\d+(x\d+)?")


def devices_of(topology: str | None) -> Sequence[jax.Device]:
    """Returns the devices of a slice, "v5e:4x4" as Cloud TPU names its shape, or of this machine for None.

    The TPU compiler runs once at a time on a machine. To be called before JAX has started.

    Raises:
        ConfigError: no such topology.
        BackendError: the TPU compiler is not installed, or in use.
    """
    if topology is None:
        return jax.devices()
    if _NAME.fullmatch(topology) is None:
        raise ConfigError(
            f"topology {topology!r} is unknown; give one of {', '.join(GENERATIONS)} and a shape, as v5e:4x4, v5p:2x2x2"
        )
    if importlib.util.find_spec("libtpu") is None:
        raise BackendError(f"topology {topology} needs the TPU compiler; install it with `pip install 'handjax[tpu]'`")
    from jax.experimental import topologies  # the TPU compiler starts with the first topology, for nobody else

    jax.config.update("jax_platforms", "cpu")
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        if "lockfile" in reason or "in use" in reason:
            raise BackendError(f"the TPU compiler is in use by another process; wait for it ({reason})") from error
        raise ConfigError(f"topology {topology}: there is no such slice ({reason}); see {SHAPES}") from error
