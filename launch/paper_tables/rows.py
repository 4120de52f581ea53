"""The rows of SGMHand's and SesaHand's tables: what is trained and measured for each; rows of one setting share it."""

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from typing import Literal

Examples = Literal["hands", "whole", "refined"]
"""Of training: hands are hidden; whole pictures are; whole pictures are, under captions made from what they show."""
Method = Literal["alone", "sgm", "control", "adaptive"]
"""The model without an adapter, with SGM, under a ControlNet, under one as weakly as HandRefiner has it."""


@dataclasses.dataclass(frozen=True)
class Training:
    """A run of `launch.train`.

    Attributes:
      name: of its folder.
      recipe: as `--config` takes it.
      layout: in which it is exported.
      examples: that it trains on.
      overrides: of the recipe, without their "--config.".
    """

    name: str
    recipe: str
    layout: Literal["torch", "diffusers", "handjax"]
    examples: Examples = "hands"
    overrides: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is measured.

    Attributes:
      name: of its results.
      method: how held-out pictures are painted.
      training: of the adapter; None where there is none.
      examples: hands are painted anew, or whole pictures from captions.
      condition: the picture that a ControlNet follows.
      test: number of the test set.
    """

    name: str
    method: Method
    training: Training | None
    examples: Examples = "hands"
    condition: Literal["depth", "skeleton", "mesh"] = "depth"
    test: int = 0


@dataclasses.dataclass(frozen=True)
class Column:
    """A figure.

    Attributes:
      paper: what the paper calls it.
      ours: beginning of the name of the item of `launch.evaluate` that stands beside it.
      best: whether the least or the most is best.
    """

    paper: str
    ours: str
    best: Literal["least", "most"] = "least"


@dataclasses.dataclass(frozen=True)
class Row:
    """A row: its name, its setting (None: it cannot be run here) and the paper's figures by column.

    Settings of pictures are `Setting`, those of meshes `recovery_rows.Recovery`.
    """

    name: str
    setting: Hashable | None
    paper: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of a paper, or the figures of a diagram.

    Attributes:
      title: of the paper and in it.
      columns: that the paper has.
      rows: in its order.
      note: what is otherwise here.
      also: columns that the paper lacks.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str = ""
    also: tuple[Column, ...] = ()


FID, KID, MPJPE = Column("FID", "FD "), Column("KID", "KID "), Column("MPJPE", "mpjpe_2d_px_self")
FID_H, KID_H = Column("FID-H", "FD-H"), Column("KID-H", "KID-H")
CONFIDENCE = Column("Hand Conf.", "hand_confidence", "most")
MSE_3D = Column("MSE-3D", "mse_3d_cm2_self")


def _figures(columns: tuple[Column, ...], *values: float) -> dict[str, float]:
    return {column.paper: value for column, value in zip(columns, values, strict=True)}


def _sgm(name: str, *overrides: str) -> Setting:
    return Setting(name, "sgm", Training(name, "sgm.py:tiny", "torch", overrides=overrides))


def _inpainting(condition: Literal["depth", "skeleton"]) -> Training:
    return Training(f"controlnet-{condition}", f"controlnet_{condition}.py:tiny", "diffusers")


def _sesahand(name: str, examples: Examples, fusion: str, alpha: float) -> Setting:
    overrides = (f"structural_fusion={fusion}", f"hand_alpha={alpha}")
    training = Training(name, "sesahand.py:tiny", "diffusers", examples, overrides)
    return Setting(name, "control", training, examples, "mesh")


SGM = _sgm("sgm")
SGM_WITHOUT_KA = _sgm("sgm-without-ka", "loss.ka_weight=0.0")
KA_ALONE = _sgm("ka-without-sgm", "sgm.attention=False", "sgm.modulator=False")
ATTENTION_ALONE = _sgm("sgm-attention-only", "sgm.modulator=False")
MODULATOR_ALONE = _sgm("sgm-modulator-only", "sgm.attention=False")
SGM_08 = _sgm("sgm-ka-0.8", "loss.ka_weight=0.8")
SKELETON = Setting("controlnet-skeleton", "control", _inpainting("skeleton"), condition="skeleton")
DEPTH = Setting("controlnet-depth", "control", _inpainting("depth"))
HANDREFINER = Setting("handrefiner", "adaptive", _inpainting("depth"))

PLAIN = _sesahand("mesh-plain", "whole", "none", 0.0)
SE = _sesahand("mesh-se", "refined", "none", 0.0)
SE_SF = _sesahand("mesh-se-sf", "refined", "mid", 0.0)
SE_SF_AE = _sesahand("mesh-se-sf-ae", "refined", "mid", 2.0)
ALPHA_1 = _sesahand("mesh-se-sf-ae-1.0", "refined", "mid", 1.0)
ALPHA_25 = _sesahand("mesh-se-sf-ae-2.5", "refined", "mid", 2.5)
MODEL_ALONE = Setting("model-alone", "alone", None, "whole")

_ALSO = (CONFIDENCE, Column("", "detection_rate", "most"))
_QUALITY = (FID, KID, MPJPE)
_MAIN = (FID, FID_H, KID_H, CONFIDENCE, MSE_3D)
_ABLATION = (FID, FID_H, KID_H, CONFIDENCE)


def _comparison(test: int, figures: Mapping[str, tuple[float, float, float]]) -> tuple[Row, ...]:
    settings = {
        "SD 1.5 inpainting + skeleton": SKELETON,
        "SD 1.5 inpainting + depth": DEPTH,
        "HandRefiner": HANDREFINER,
        "RealisHuman": None,
        "SGMHand": SGM,
    }
    return tuple(
        Row(name, setting and dataclasses.replace(setting, test=test), _figures(_QUALITY, *figures[name]))
        for name, setting in settings.items()
    )


TABLES = (
    Table(
        "SGMHand, Table 1 (HaGRID)",
        _QUALITY,
        _comparison(
            0,
            {
                "SD 1.5 inpainting + skeleton": (26.42, 0.0296, 19.755),
                "SD 1.5 inpainting + depth": (24.19, 0.0271, 20.972),
                "HandRefiner": (18.73, 0.0214, 17.722),
                "RealisHuman": (18.47, 0.0207, 19.614),
                "SGMHand": (16.83, 0.0187, 15.185),
            },
        ),
        "HandRefiner is the ControlNet of depth at adaptive strength, of one training.",
        _ALSO,
    ),
    Table(
        "SGMHand, Table 2 (FreiHAND)",
        _QUALITY,
        _comparison(
            1,
            {
                "SD 1.5 inpainting + skeleton": (31.51, 0.0337, 27.483),
                "SD 1.5 inpainting + depth": (30.62, 0.0329, 28.944),
                "HandRefiner": (26.22, 0.0299, 23.752),
                "RealisHuman": (24.37, 0.0267, 19.941),
                "SGMHand": (22.64, 0.0231, 16.185),
            },
        ),
        "The same trainings on the second test set.",
        _ALSO,
    ),
    Table(
        "SGMHand, Table 3 (SGM and KA loss)",
        _QUALITY,
        (
            Row("SGM without KA loss", SGM_WITHOUT_KA, _figures(_QUALITY, 18.37, 0.0212, 19.724)),
            Row("KA loss without SGM", KA_ALONE, _figures(_QUALITY, 21.74, 0.0254, 18.991)),
            Row("both", SGM, _figures(_QUALITY, 16.83, 0.0187, 15.185)),
        ),
        "Without SGM the attention map is the energy of the hint features (DECISIONS A7).",
        _ALSO,
    ),
    Table(
        "SGMHand, Table 4 (parts of SGM)",
        _QUALITY,
        (
            Row("feature modulator only", MODULATOR_ALONE, _figures(_QUALITY, 18.14, 0.0199, 17.426)),
            Row("structure-aware attention only", ATTENTION_ALONE, _figures(_QUALITY, 17.81, 0.0193, 16.578)),
            Row("both", SGM, _figures(_QUALITY, 16.83, 0.0187, 15.185)),
        ),
        "With the modulator only, the attention map is the energy of the hint features (DECISIONS A7).",
        _ALSO,
    ),
    Table(
        "SGMHand, Fig. 8 (weight of the KA loss)",
        _QUALITY,
        (
            Row("0.0", SGM_WITHOUT_KA, {"FID": 18.37}),
            Row("0.3", SGM, {"FID": 16.83}),
            Row("0.8", SGM_08, {"FID": 21.48}),
        ),
        "The weights whose FID the text gives; they multiply the mean over the map (DECISIONS A4).",
        _ALSO,
    ),
    Table(
        "SesaHand, main results (MSCOCO)",
        _MAIN,
        (
            Row("Stable Diffusion", MODEL_ALONE, _figures(_MAIN, 40.52, 50.78, 0.02554, 0.651, 4.591)),
            Row("ControlNet", PLAIN, _figures(_MAIN, 21.67, 40.32, 0.02098, 0.810, 2.182)),
            Row("AttentionHand", None, _figures(_MAIN, 20.71, 27.09, 0.01287, 0.965, 1.986)),
            Row("SesaHand", SE_SF_AE, _figures(_MAIN, 18.63, 17.77, 0.00718, 0.966, 1.537)),
        ),
        "The ControlNet is that of the next table's first row, which in the paper it is not (DECISIONS D6).",
        _ALSO,
    ),
    Table(
        "SesaHand, ablation (MSCOCO)",
        _ABLATION,
        (
            Row("without all", PLAIN, _figures(_ABLATION, 21.04, 21.90, 0.00982, 0.942)),
            Row("+ SE", SE, _figures(_ABLATION, 19.83, 18.90, 0.00807, 0.944)),
            Row("+ SE + SF", SE_SF, _figures(_ABLATION, 19.05, 18.17, 0.00722, 0.960)),
            Row("+ SE + SF + AE", SE_SF_AE, _figures(_ABLATION, 18.63, 17.77, 0.00718, 0.966)),
        ),
        "SE are the captions that the rules of `launch.caption` make; without it they are the records' own, which "
        "speak of nothing but the hand either.",
        _ALSO,
    ),
    Table(
        "SesaHand, bias α on the words on hands",
        _ABLATION,
        (
            Row("0", SE_SF),
            Row("1.0", ALPHA_1),
            Row("2.0", SE_SF_AE, {"FID": 18.63, "FID-H": 17.77}),
            Row("2.5", ALPHA_25),
        ),
        "The paper gives the figures of 2.0, its best.",
        _ALSO,
    ),
)


def settings_of(tables: Sequence[Table], tests: int) -> list[Setting]:
    """The settings of all rows, each once, that so many test sets allow; those of one training beside each other."""
    used = dict.fromkeys(row.setting for table in tables for row in table.rows if isinstance(row.setting, Setting))
    return sorted((s for s in used if s.test < tests), key=lambda s: [t.training for t in used].index(s.training))
