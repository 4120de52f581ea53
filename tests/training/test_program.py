"""What is read from a program in the compiler's words, against sums done by hand."""

import jax
import jax.numpy as jnp
import pytest

from handjax.training.program import Tensor, argument_elements, hbm_traffic, largest_tensors

PROGRAM = """HloModule jit_run, entry_computation_layout={(f32[500,500]{1,0}, bf16[30]{0}, s32[])->f32[10]{0}}

%fused_computation (p.1: f32[900,900]) -> f32[900,900] {
  %p.1 = f32[900,900]{1,0} parameter(0)
  ROOT %inner = f32[900,900]{1,0} negate(%p.1)
}

ENTRY %main.2_spmd (a: f32[500,500], b: bf16[30], c: s32[]) -> f32[10] {
  %a = f32[500,500]{1,0:T(8,128)} parameter(0), metadata={op_name="state.a"}
  %b = bf16[30]{0:T(256)} parameter(1)
  %c = s32[] parameter(2)
  %dot.1 = bf16[100,20]{1,0:T(8,128)(2,1)} dot(%a, %b), metadata={op_name="jit(run)/dot_general" source_line=3}
  %view = f32[400,100]{1,0} bitcast(%a)
  %mask = pred[3000]{0:T(512)S(1)} compare(%dot.1, %dot.1), direction=LT
  %pair = (f32[7]{0}, f32[5]{0:S(1)}) fusion(%mask), kind=kLoop, calls=%fused_computation
  %first = f32[7]{0} get-tuple-element(%pair), index=0
  ROOT %result = f32[10]{0} fusion(%first), kind=kLoop, calls=%fused_computation
}
"""
MATRIX, VECTOR, DOT = 4 * 500 * 500, 2 * 30, 2 * 100 * 20


def test_arguments():
    assert argument_elements(PROGRAM) == {"f32": 250_000, "bf16": 30, "s32": 1}


def test_the_largest_arrays_are_those_that_the_program_makes():
    dot = Tensor(DOT, "bf16[100,20]", "jit(run)/dot_general")
    assert largest_tensors(PROGRAM, 2) == [dot, Tensor(3000, "pred[3000]", "")]


def test_traffic_leaves_out_what_stays_on_the_chip():
    dot = MATRIX + VECTOR + DOT
    mask = 2 * DOT  # its result stays
    pair, result = 4 * 7, 4 * 7 + 4 * 10
    assert hbm_traffic(PROGRAM) == dot + mask + pair + result


def entry(*lines: str, others: str = "") -> str:
    body = "\n".join(f"  {line}" for line in ("%x = f32[1000]{0} parameter(0)", *lines))
    return f"HloModule m\n{others}\n\nENTRY %main (x: f32[1000]) -> f32[1] {{\n{body}\n}}\n"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        # into the chip's memory: read once, written nowhere
        (
            (
                "%s = (f32[1000]{0:S(1)}, f32[1000]{0}, u32[]{:S(2)}) copy-start(%x), cross_program_prefetch_index=0",
                "%d = f32[1000]{0:S(1)} copy-done(%s)",
            ),
            4000,
        ),
        # a slice of it
        (
            (
                "%s = ((f32[1000]{0}), f32[250]{0:S(1)}, s32[]{:S(2)}) slice-start(%x), slice={[0:250]}",
                "%d = f32[250]{0:S(1)} slice-done(%s)",
            ),
            1000,
        ),
        # and out again, beside what a product reads and writes
        (
            (
                "%y = f32[1000]{0:S(1)} negate(%x)",
                "%s = (f32[1000]{0}, f32[1000]{0:S(1)}, u32[]{:S(2)}) copy-start(%y)",
                "%d = f32[1000]{0} copy-done(%s)",
            ),
            8000,
        ),
    ],
)
def test_copies_beside_the_arithmetic(lines, expected):
    assert hbm_traffic(entry(*lines)) == expected


def test_the_body_of_a_loop_runs_once():
    body = (
        "\n%body.1 (t: f32[1000]) -> f32[1000] {\n  %t = f32[1000]{0} parameter(0)\n  "
        "ROOT %n = f32[1000]{0} negate(%t)\n}\n"
    )
    line = "%w = f32[1000]{0} while(%x), condition=%cond, body=%body.1"
    assert hbm_traffic(entry(line, others=body)) == 8000


def test_a_program_compiled_here():
    x = jax.ShapeDtypeStruct((64, 32), jnp.float32)
    program = jax.jit(lambda x: jnp.sin(x) @ jnp.ones((32, 16))).lower(x).compile().as_text()
    assert argument_elements(program) == {"f32": 64 * 32}
    # reads the argument, writes the result, and little else
    assert 4 * (64 * 32 + 64 * 16) <= hbm_traffic(program) <= 6 * 4 * (64 * 32 + 64 * 16)
