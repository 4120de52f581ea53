"""What a compiled program's text (HLO) says about its arrays: arguments, the largest, and traffic with memory."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^ +(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<result>.*?) (?P<kind>[\w\-]+)\((?P<rest>.*)$")
# TPUs have several memories: S(1) and higher are on the chip, a layout that names none is the large one.
_ARRAY = re.compile(r"(?P<dtype>[a-z]+\d*\w*)\[(?P<shape>[\d,]*)\](?P<layout>\{[^}]*\})?")
_OPERATOR = re.compile(r'op_name="([^"]*)"')
_OPERAND = re.compile(r"%([\w.\-]+)")
# Results that are given their memory by another operation.
NOTHING_NEW = ("parameter", "constant", "bitcast", "get-tuple-element", "tuple")
# Operations that run another computation, and how they name it.
RUNS = {"while": re.compile(r"body=%?([\w.\-]+)"), "call": re.compile(r"to_apply=%?([\w.\-]+)")}
START, DONE = "-start", "-done"


class Tensor(NamedTuple):
    """An array of a program: its bytes, its dtype and shape, and the operation of ours that makes it."""

    bytes: int
    shape: str
    operator: str


class _Array(NamedTuple):
    bytes: int
    shape: str
    on_chip: bool


class _Instruction(NamedTuple):
    name: str
    kind: str
    result: list[_Array]
    operands: list[str]
    text: str


def argument_elements(program: str) -> dict[str, int]:
    """Returns dtype -> elements of a program's arguments on each device; what it does not use is not there."""
    found: dict[str, int] = {}
    for instruction in _computations(program)[0]:
        if instruction.kind == "parameter":
            dtype, shape = instruction.result[0].shape.rstrip("]").split("[")
            found[dtype] = found.get(dtype, 0) + _elements(shape)
    return found


def largest_tensors(program: str, count: int) -> list[Tensor]:
    """Returns the largest arrays that a program makes, one of each shape and operation."""
    found = {
        Tensor(array.bytes, array.shape, operator[1] if (operator := _OPERATOR.search(instruction.text)) else "")
        for instruction in _computations(program)[0]
        if instruction.kind not in NOTHING_NEW
        for array in instruction.result
    }
    return sorted(found, reverse=True)[:count]


def hbm_traffic(program: str) -> int:
    """Returns the bytes that a program moves from and to its device's large memory.

    Every operation reads its operands and writes its results once, whole, unless the compiler has put them into memory
    on the chip; the body of a loop runs once.
    """
    entry, others = _computations(program)
    return _traffic(entry, others)


def _traffic(instructions: list[_Instruction], others: dict[str, list[_Instruction]]) -> int:
    arrays = {instruction.name: instruction.result for instruction in instructions}
    started: dict[str, list[_Array]] = {}
    total = 0
    for instruction in instructions:
        sources = [array for name in instruction.operands for array in arrays.get(name, [])]
        if instruction.kind in NOTHING_NEW:
            continue
        if instruction.kind in RUNS:
            run = RUNS[instruction.kind].search(instruction.text)
            total += _traffic(others.get(run[1], []) if run else [], others)
        elif instruction.kind.endswith(START):
            started[instruction.name] = sources
        elif instruction.kind.endswith(DONE):
            # A copy that runs beside other operations; of a slice no more is read than is written.
            copied = sum(array.bytes for array in instruction.result)
            read = [array for name in instruction.operands for array in started.get(name, [])]
            total += _in_large_memory(instruction.result) + min(copied, _in_large_memory(read))
        else:
            total += _in_large_memory(sources) + _in_large_memory(instruction.result)
    return total


def _in_large_memory(arrays: list[_Array]) -> int:
    return sum(array.bytes for array in arrays if not array.on_chip)


def _computations(program: str) -> tuple[list[_Instruction], dict[str, list[_Instruction]]]:
    """The instructions of the entry, and of every computation by name."""
    entry: list[_Instruction] = []
    found: dict[str, list[_Instruction]] = {}
    current: list[_Instruction] = []
    for line in program.splitlines():
        if head := _COMPUTATION.match(line):
            current = found.setdefault(head["name"], [])
            entry = current if head["entry"] else entry
        elif instruction := _INSTRUCTION.match(line):
            operands = _OPERAND.findall(instruction["rest"].partition(")")[0])
            result = list(_arrays(instruction["result"]))
            current.append(_Instruction(instruction["name"], instruction["kind"], result, operands, line))
    return entry, found


def _arrays(result: str) -> Iterator[_Array]:
    for array in _ARRAY.finditer(result):
        bits = re.search(r"\d+", array["dtype"])
        size = _elements(array["shape"]) * (int(bits[0]) if bits else 8) // 8
        yield _Array(size, f"{array['dtype']}[{array['shape']}]", "S(" in (array["layout"] or ""))


def _elements(shape: str) -> int:
    return math.prod(int(size) for size in shape.split(",") if size)
