"""The least time that a step can take on a chip, by the figures that its maker publishes.

Arithmetic, traffic to the chip's own memory and traffic to other chips are taken to overlap entirely and each to run at
full speed, so that the longest of the three bounds the step from below and the use of the chip from above.
"""

import dataclasses

GIGA, TERA, GIB = 1e9, 1e12, 2.0**30
CLOUD_TPU = "https://docs.cloud.google.com/tpu/docs"


@dataclasses.dataclass(frozen=True)
class Chip:
    """Published figures of a chip.

    Args:
      flops: dense bfloat16 operations a second.
      hbm: bytes of memory.
      hbm_bandwidth: bytes a second, to and from memory.
      link_bandwidth: bytes a second sent to other chips over all links together, half of a figure "bidirectional".
      source: where they are published.
    """

    flops: float
    hbm: float
    hbm_bandwidth: float
    link_bandwidth: float
    source: str


# By the beginning of JAX's `device_kind`.
CHIPS = {
    "TPU v4": Chip(275 * TERA, 32 * GIB, 1228 * GIGA, 300 * GIGA, f"{CLOUD_TPU}/v4"),
    "TPU v5 lite": Chip(197 * TERA, 16 * GIB, 819 * GIGA, 200 * GIGA, f"{CLOUD_TPU}/v5e"),
    "TPU v5": Chip(459 * TERA, 95 * GIB, 2765 * GIGA, 600 * GIGA, f"{CLOUD_TPU}/v5p"),
    "TPU v6 lite": Chip(918 * TERA, 32 * GIB, 1638 * GIGA, 400 * GIGA, f"{CLOUD_TPU}/tpu7x"),
    "NVIDIA A100-SXM4-40GB": Chip(312 * TERA, 40 * GIB, 1555 * GIGA, 300 * GIGA, "NVIDIA A100 data sheet (SXM)"),
    "NVIDIA A100-SXM4-80GB": Chip(312 * TERA, 80 * GIB, 2039 * GIGA, 300 * GIGA, "NVIDIA A100 data sheet (SXM)"),
    "NVIDIA H100 80GB HBM3": Chip(989 * TERA, 80 * GIB, 3350 * GIGA, 450 * GIGA, "NVIDIA H100 data sheet (SXM, dense)"),
    "NVIDIA H200": Chip(989 * TERA, 141 * GIGA, 4800 * GIGA, 450 * GIGA, "NVIDIA H200 data sheet (SXM, dense)"),
}


def chip_of(device_kind: str) -> Chip | None:
    """Returns the chip that a device is, None where its figures are not in `CHIPS`."""
    name = max((name for name in CHIPS if device_kind.startswith(name)), key=len, default=None)
    return CHIPS[name] if name else None


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Seconds that a step takes at least.

    Args:
      compute: for its arithmetic.
      memory: for the traffic with the chip's own memory.
      network: for the traffic with other chips.
    """

    compute: float
    memory: float
    network: float

    @property
    def seconds(self) -> float:
        """The bound when all three overlap."""
        return max(self.compute, self.memory, self.network)

    @property
    def seconds_in_turn(self) -> float:
        """The bound when none overlaps."""
        return self.compute + self.memory + self.network

    @property
    def limit(self) -> str:
        """Which of the three it is."""
        return max(("compute", "memory", "network"), key=lambda name: getattr(self, name))


def roofline(chip: Chip, flops: float, hbm_bytes: float, sent_bytes: float) -> Roofline:
    """Returns the bound of a step.

    Args:
      chip: that it runs on.
      flops: operations that the chip executes, those of rematerialisation included.
      hbm_bytes: that it reads from and writes to its memory.
      sent_bytes: that it sends to other chips.

    Source:
      Williams, Waterman and Patterson 2009, Roofline, section 3.
    """
    return Roofline(flops / chip.flops, hbm_bytes / chip.hbm_bandwidth, sent_bytes / chip.link_bandwidth)
