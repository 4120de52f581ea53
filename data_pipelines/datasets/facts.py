"""What is to be known of a published data set before one of its files is opened."""

import dataclasses
from collections.abc import Mapping

from handjax.hand.mano import LeftShape, Tips


@dataclasses.dataclass(frozen=True)
class DatasetFacts:
    """A data set in words and numbers.

    Attributes:
      name: as `launch.precompute --input NAME:FOLDER` takes it.
      description: what it shows.
      homepage: where its terms and downloads are.
      licence: as its authors state it, in a line.
      citation: BibTeX.
      download: what to do about a missing file: a clause that follows the file's name in errors.
      parts: splits of records → the data set's own names for its parts.
      kind: what its pictures are, for captions.
      min_seen: so many keypoints of a hand must be seen in the picture.
      paper_eval: the split from which the papers draw their evaluation set, and how many pictures.
      tips: whose fingertip vertices of MANO its keypoints are (DECISIONS G2).
      left_shape: how its left MANO hands were made (DECISIONS G4).
    """

    name: str
    description: str
    homepage: str
    licence: str
    citation: str
    download: str
    parts: Mapping[str, str]
    kind: str = "photo"
    min_seen: int = 11
    paper_eval: tuple[str, int] | None = None
    tips: Tips = "smplx"
    left_shape: LeftShape = "auto"
