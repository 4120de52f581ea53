"""The rows of MMHMR's tables that take a training of their own, at the paper's tokens and codes but narrow networks."""

import dataclasses
from collections.abc import Mapping

from handjax.recovery.decoding import ITERATIONS
from launch.paper_tables.rows import Column, Row, Table, Training

TRANSFORMER, TOKENIZER = "mmhmr.py:embedded", "vq_mano.py:embedded"
"""The recipes that two cores can train."""


@dataclasses.dataclass(frozen=True)
class Recovery:
    """What is measured.

    Attributes:
      name: of its results.
      tokenizer: of poses.
      training: of the transformer; None measures the tokenizer alone.
      iterations: of decoding.
    """

    name: str
    tokenizer: Training
    training: Training | None
    iterations: int = ITERATIONS


def _tokenizer(tokens: int = 64, codes: int = 2048, dim: int = 256) -> Training:
    overrides = (f"network.tokens={tokens}", f"quantizer.codes={codes}", f"quantizer.dim={dim}")
    return Training(f"tokens-{tokens}-{codes}x{dim}", TOKENIZER, "handjax", overrides=overrides)


def _alone(tokenizer: Training) -> Recovery:
    return Recovery(tokenizer.name, tokenizer, None)


TOKENS = {count: _tokenizer(count) for count in (16, 32, 64, 128)}
CODES = {
    "1024×256": _tokenizer(codes=1024),
    "2048×128": _tokenizer(dim=128),
    "2048×256": TOKENS[64],
    "4096×256": _tokenizer(codes=4096),
}


def _network(name: str, fields: Mapping[str, object] | None = None, tokenizer: Training = TOKENS[64]) -> Recovery:
    chosen = {"network.layers": 4} | dict(fields or {})
    overrides = tuple(f"{field}={value}" for field, value in chosen.items())
    return Recovery(name, tokenizer, Training(name, TRANSFORMER, "handjax", overrides=overrides))


def _without_losses(name: str, *losses: str) -> Recovery:
    return _network(name, {f"loss.{loss}": 0.0 for loss in losses})


def _on(tokenizer: Training) -> Recovery:
    return FULL if tokenizer == FULL.tokenizer else _network(f"on-{tokenizer.name}", tokenizer=tokenizer)


FULL = _network("full")
ONE_ITERATION = dataclasses.replace(FULL, name="full-1-iteration", iterations=1)
WITHOUT_UPSAMPLER = _network("scales-1", {"network.scales": "(1,)"})
WITHOUT_CUE = _network("without-cue", {"network.use_cue": False})
WITHOUT_HEAD = _network("without-head", {"network.head_layers": 0})
WITHOUT_GGPM = _network("without-ggpm", {"network.graph_blocks": 0})

_ERRORS = (Column("PA-MPJPE", "with_keypoints/pa_mpjpe_mm"), Column("PA-MPVPE", "with_keypoints/pa_mpvpe_mm"))
_MAIN = (
    *_ERRORS,
    Column("F@5mm", "with_keypoints/f_5", "most"),
    Column("AUC_J", "with_keypoints/auc_J", "most"),
    Column("AUC_V", "with_keypoints/auc_V", "most"),
)
_TOKEN_ERRORS = (Column("PA-MPJPE", "pa_mpjpe_mm"), Column("PA-MPVPE", "pa_mpvpe_mm"))
_ALONE = (Column("", "alone/pa_mpjpe_mm"),)
"""Without keypoints, which the paper does not tell."""


def _row(name: str, setting: Recovery | None, *values: float, columns: tuple[Column, ...] = _ERRORS) -> Row:
    return Row(name, setting, {column.paper: value for column, value in zip(columns, values, strict=True)})


RECOVERY_TABLES = (
    Table(
        "MMHMR, Table 5 (components; HO3Dv3)",
        _MAIN,
        (
            _row("w/o upsampler", WITHOUT_UPSAMPLER, 7.2, 7.2, 0.654, 0.857, 0.857, columns=_MAIN),
            _row("w/o 2-D pose context", WITHOUT_CUE, 7.1, 7.1, 0.656, 0.857, 0.858, columns=_MAIN),
            _row("w/o x-attention head", WITHOUT_HEAD, 7.3, 7.1, 0.655, 0.855, 0.858, columns=_MAIN),
            _row("w/o GGPM", WITHOUT_GGPM, 7.3, 7.3, 0.645, 0.853, 0.854, columns=_MAIN),
            _row("w/o iterative decoding", ONE_ITERATION, 7.2, 7.2, 0.654, 0.857, 0.857, columns=_MAIN),
            _row("full", FULL, 7.0, 7.0, 0.663, 0.860, 0.860, columns=_MAIN),
        ),
        "Without GGPM, keypoints reach the tokens as the places that these look at alone. Without the x-attention "
        "head, shape and camera are read from the mean of the map (DECISIONS F11).",
        also=_ALONE,
    ),
    Table(
        "MMHMR, Table 7 (masking while training; FreiHAND)",
        _ERRORS,
        (
            _row("τ to 0.3", _network("most-0.3", {"corruption.most": 0.3}), 6.0, 6.1),
            _row("τ to 0.5", _network("most-0.5", {"corruption.most": 0.5}), 5.8, 5.7),
            _row("τ to 0.7", FULL, 5.7, 5.5),
            _row("τ to 1.0", _network("most-1.0", {"corruption.most": 1.0}), 6.0, 6.0),
        ),
        also=_ALONE,
    ),
    Table(
        "MMHMR, Table 8 (number of tokens; FreiHAND)",
        _TOKEN_ERRORS,
        tuple(
            _row(str(count), _alone(TOKENS[count]), *values, columns=_TOKEN_ERRORS)
            for count, values in {16: (1.01, 0.97), 32: (0.59, 0.57), 64: (0.47, 0.44), 128: (0.41, 0.41)}.items()
        ),
        "Of the tokenizer alone, on random poses within the limits of motion.",
    ),
    Table(
        "MMHMR, Table 9 (codebook of the tokenizer; FreiHAND)",
        _TOKEN_ERRORS,
        tuple(
            _row(name, _alone(CODES[name]), *values, columns=_TOKEN_ERRORS)
            for name, values in {
                "1024×256": (0.66, 0.65),
                "2048×128": (0.56, 0.58),
                "2048×256": (0.47, 0.44),
                "4096×256": (0.43, 0.44),
            }.items()
        ),
        "As Table 8.",
    ),
    Table(
        "MMHMR, Table 11 (losses; FreiHAND)",
        _ERRORS,
        (
            _row("L_mask, β", _without_losses("mask-betas", "rotation", "joints_3d", "joints_2d"), 6.3, 6.4),
            _row("L_mask, L_MANO, β", _without_losses("mask-mano-betas", "joints_3d", "joints_2d"), 6.2, 6.4),
            _row("L_mask, L_MANO, L_3D, L_2D, β", FULL, 5.7, 5.5),
            _row("L_3D, β", _without_losses("3d-betas", "mask", "rotation", "joints_2d"), 6.8, 7.0),
            _row("L_mask, L_MANO, L_3D, L_2D, β (again)", None, 6.5, 6.7),
        ),
        "The paper lists one set of losses twice; which one the last row is of is not known (DECISIONS F12).",
        also=_ALONE,
    ),
    Table(
        "MMHMR, Table 14 (codebook of the whole; FreiHAND)",
        _ERRORS,
        tuple(
            _row(name, _on(CODES[name]), *values)
            for name, values in {"1024×256": (6.4, 6.5), "2048×128": (6.0, 5.9), "2048×256": (5.7, 5.7)}.items()
        ),
        "Of 64 tokens; the paper's 96 are a misprint (DECISIONS F12).",
        also=_ALONE,
    ),
    Table(
        "MMHMR, Table 15 (scales of the feature maps; FreiHAND)",
        _ERRORS,
        (
            _row("1×", WITHOUT_UPSAMPLER, 5.9, 5.8),
            _row("1×, 4×", FULL, 5.7, 5.5),
            _row("1×, 4×, 8×", _network("scales-1-4-8", {"network.scales": "(1,4,8)"}), 5.8, 5.9),
            _row("1×, 8×, 16×", _network("scales-1-8-16", {"network.scales": "(1,8,16)"}), 6.0, 5.9),
            _row("1×, 4×, 8×, 16×", _network("scales-1-4-8-16", {"network.scales": "(1,4,8,16)"}), 6.1, 6.3),
        ),
        also=_ALONE,
    ),
    Table(
        "MMHMR, Table 16 (layers of the synthesiser; FreiHAND)",
        _ERRORS,
        (
            _row("2", _network("layers-2", {"network.layers": 2}), 6.6, 6.9),
            _row("4", FULL, 5.7, 5.5),
            _row("6", _network("layers-6", {"network.layers": 6}), 5.7, 5.8),
            _row("8", _network("layers-8", {"network.layers": 8}), 6.0, 6.1),
        ),
        also=_ALONE,
    ),
)
