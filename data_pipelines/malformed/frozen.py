"""What sets of hands are known by: hashes that tell whether figures were measured on the same pictures."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data_pipelines.malformed.edits import BY_NAME, draw_edit
from data_pipelines.malformed.mesh_edits import RENDERED_EDITS
from data_pipelines.malformed.rendered import MalformedJob, random_of
from handjax.errors import InputError
from handjax.record import HandRecord


def fingerprint(records: Iterable[HandRecord]) -> dict[str, Any]:
    """Describes a set of malformed hands.

    Args:
      records: all of them, in any order.

    Returns:
      records, their number; kinds, the number of each class; edits, of each edit; labels_sha256, of what the records
      say (id, side, edit, number of fingers, caption); pictures_sha256, of the encoded pictures. The labels are to be
      the same on every machine. The pictures are the same on one machine; on another the last bits of a rendering,
      and so the bytes of its JPEG, can be others.
    """
    labels, pictures = [], []
    edits: Counter[str] = Counter()
    for record in records:
        labels.append(f"{record.id} {record.side} {record.edit} {record.fingers} {record.caption}")
        pictures.append(f"{record.id} {hashlib.sha256(record.image).hexdigest()}")
        edits[record.edit or ""] += 1
    kinds: Counter[str] = Counter()
    for name, count in edits.items():
        kinds[BY_NAME[name].kind] += count
    return {
        "records": len(labels),
        "kinds": dict(sorted(kinds.items())),
        "edits": dict(sorted(edits.items())),
        "labels_sha256": _hash(sorted(labels)),
        "pictures_sha256": _hash(sorted(pictures)),
    }


def recipe_hash(seed: int = 0) -> str:
    """Hash of which edit each rendered hand of the test set gets, which takes no rendering to know."""
    names = MalformedJob(count=0, seed=seed).splits()["eval"]
    drawn = [draw_edit(random_of(seed, name), RENDERED_EDITS, held_out=True).name for name in names]
    return _hash([f"{name} {edit}" for name, edit in zip(names, drawn, strict=True)])


def check_frozen(found: dict[str, Any], table: Path, name: str) -> bool:
    """Compares a set with the committed one.

    Args:
      found: the set's `fingerprint`.
      table: JSON file of fingerprints by name.
      name: of the set in the table.

    Returns:
      Whether the pictures are the same byte by byte, too.

    Raises:
      InputError: the labels are not those of the committed set.
    """
    frozen = json.loads(table.read_text())[name]
    if found["labels_sha256"] != frozen["labels_sha256"]:
        raise InputError(
            f"{name}: {found['records']} hands with labels {found['labels_sha256'][:12]}, not the {frozen['records']} "
            f"with {frozen['labels_sha256'][:12]} of {table}; make it again by the command there"
        )
    return found["pictures_sha256"] == frozen["pictures_sha256"]


def _hash(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
