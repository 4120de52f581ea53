"""All published data sets that can be prepared, by the name that `launch.precompute --input NAME:FOLDER` takes."""

from data_pipelines.datasets.builder import HandDataset
from data_pipelines.datasets.rhd import Rhd

DATASETS: dict[str, type[HandDataset]] = {builder.FACTS.name: builder for builder in (Rhd,)}
