"""What a compiled program sends between devices, read from its text."""

import dataclasses
import math
import re

from jax.stages import Compiled

_OPERATION = re.compile(
    r"= (?P<result>\S.*?) (?P<kind>all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)"
    r"(?P<start>-start)?\("
)
_ARRAY = re.compile(r"(?P<dtype>pred|[a-z]+(?P<bits>\d+)\w*)\[(?P<shape>[\d,]*)\]")
# Groups are written out, as (groups, size) of a formula, or as axes of a mesh (or factors of them).
_GROUPS = re.compile(
    r"replica_groups=(\{\{(?P<first>[\d,]*)\}|\[(?P<iota>\d+,\d+)\]|mesh\[(?P<mesh>[^]]*)\][^{]*\{(?P<axes>[^}]*)\})"
)
_AXIS = re.compile(r"'(?P<name>\w+)'(:\(\d+\)(?P<factor>\d+)|=(?P<size>\d+))?")
_DEVICES = re.compile(r"(?:num_partitions|replica_count)=(\d+)")


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Operations of one kind.

    Attributes:
      count: of operations; those in the body of a loop count once.
      bytes: that each device sends in them together.
    """

    count: int
    bytes: int


def collectives(compiled: Compiled) -> dict[str, Traffic]:
    """Returns kind ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute") -> traffic.

    Bytes are those of ring algorithms: of n devices each sends 2(n-1)/n of the array in an all-reduce, (n-1)/n of the
    whole array in the others, and all of it in a permutation.

    Source:
      Patarasuk and Yuan 2009, Bandwidth optimal all-reduce algorithms, section 3.
    """
    return read_collectives(compiled.as_text() or "")


def read_collectives(program: str) -> dict[str, Traffic]:
    """`collectives` of a program in the compiler's text form (HLO)."""
    devices = math.prod(map(int, _DEVICES.findall(program.partition("\n")[0])))
    found: dict[str, Traffic] = {}
    for line in program.splitlines():
        operation = _OPERATION.search(line)
        if operation is None:
            continue
        kind, group = operation["kind"], _group_size(line, devices)
        before = found.get(kind, Traffic(0, 0))
        found[kind] = Traffic(before.count + 1, before.bytes + round(_sent(operation, group)))
    return found


def _sent(operation: re.Match[str], group: int) -> float:
    result = _result_bytes(operation)
    share = (group - 1) / group
    factors = {"all-reduce": 2 * share, "reduce-scatter": group * share, "collective-permute": 1.0}
    return result * factors.get(operation["kind"], share)


def _result_bytes(operation: re.Match[str]) -> float:
    arrays = list(_ARRAY.finditer(operation["result"]))
    if operation["start"] and operation["kind"] != "all-reduce":
        # An asynchronous start has (operands, results, context of scalars).
        arrays = [array for array in arrays if array["shape"]]
        arrays = arrays[len(arrays) // 2 :]
    return sum(_array_bytes(array) for array in arrays)


def _array_bytes(array: re.Match[str]) -> float:
    return int(array["bits"] or 8) / 8 * math.prod(int(size) for size in array["shape"].split(",") if size)


def _group_size(line: str, devices: int) -> int:
    groups = _GROUPS.search(line)
    if groups is None:
        return devices
    if groups["mesh"]:
        sizes = {axis["name"]: int(axis["size"]) for axis in _AXIS.finditer(groups["mesh"])}
        return math.prod(int(axis["factor"] or sizes[axis["name"]]) for axis in _AXIS.finditer(groups["axes"]))
    return int(groups["iota"].split(",")[1]) if groups["iota"] else len(groups["first"].split(","))
