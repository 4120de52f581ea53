"""All published data sets that can be prepared, by the name that `launch.precompute --input NAME:FOLDER` takes."""

from data_pipelines.datasets.asl_alphabet import AslAlphabet
from data_pipelines.datasets.builder import HandDataset
from data_pipelines.datasets.coco_wholebody import CocoCaptions, CocoWholeBody
from data_pipelines.datasets.dexycb import DexYcb
from data_pipelines.datasets.doh100 import Doh100
from data_pipelines.datasets.freihand import FreiHand
from data_pipelines.datasets.h2o3d import H2o3d
from data_pipelines.datasets.hagrid import Hagrid, HagridV2
from data_pipelines.datasets.halpe import Halpe
from data_pipelines.datasets.hamer_tars import HamerTars
from data_pipelines.datasets.hic import Hic
from data_pipelines.datasets.hint import Hint
from data_pipelines.datasets.ho3d import Ho3dV2, Ho3dV3
from data_pipelines.datasets.interhand import InterHand
from data_pipelines.datasets.mpii_nzsl import MpiiNzsl
from data_pipelines.datasets.mtc import Mtc
from data_pipelines.datasets.reinterhand import ReInterHand
from data_pipelines.datasets.rhd import Rhd

_BUILDERS: tuple[type[HandDataset], ...] = (
    Rhd,
    FreiHand,
    Hagrid,
    HagridV2,
    InterHand,
    DexYcb,
    Ho3dV2,
    Ho3dV3,
    H2o3d,
    ReInterHand,
    Hic,
    Mtc,
    Hint,
    CocoWholeBody,
    CocoCaptions,
    Halpe,
    MpiiNzsl,
    HamerTars,
    Doh100,
    AslAlphabet,
)
DATASETS = {builder.FACTS.name: builder for builder in _BUILDERS}
