"""Recovered hands of held-out records beside what they stand for."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from handjax.hand.model import HandModel
from handjax.hand.rotations import axis_angle_to_matrix
from handjax.metrics.recovery import RecoveredSet
from handjax.recovery.camera import project_to_crop
from handjax.recovery.decoding import hidden_before
from handjax.recovery.files import RecoveryModel
from handjax.recovery.posing import pose_hands
from handjax.recovery.reading import Fixed, MeshReader
from handjax.recovery.tokenizer import check_hand

Batch = Mapping[str, np.ndarray]


def recover_batches(
    model: RecoveryModel,
    hand: HandModel,
    batches: Iterable[Batch],
    limit: int,
    with_cue: bool,
    on_batch: Callable[[int], Any] = lambda n: None,
    **options: Any,
) -> RecoveredSet:
    """Recovers the hands of batches of the mesh recovery task.

    Args:
        model: transformer and tokenizer.
        hand: the right hand that the tokenizer knows.
        batches: with the fields of the task.
        limit: number of hands.
        with_cue: whether the network is given the records' keypoints, or the picture alone.
        on_batch: told the number of hands done.
        options: those of `MeshReader.recover`.

    Raises:
        ConfigError: the tokenizer knows another hand model, or the hand is a left one.
    """
    check_hand(model.tokenizer, hand)
    reader = MeshReader(model.network, model.tokenizer.network)
    read = jax.jit(functools.partial(_read, reader, with_cue=with_cue, options=options))
    fixed, parts, done = Fixed(model.tokenizer.arrays, hand), [], 0
    for batch in batches:
        parts.append(jax.device_get(read(model.params, fixed, batch)))
        done += len(batch["image"])
        on_batch(min(limit, done))
        if done >= limit:
            break
    columns = {name: np.concatenate([part[name] for part in parts])[:limit] for name in parts[0]}
    return RecoveredSet(**columns)


@jax.default_matmul_precision("highest")
def _read(
    reader: MeshReader, params, fixed: Fixed, batch: Mapping[str, jax.Array], with_cue: bool, options: dict[str, Any]
):
    size = batch["image"].shape[1]
    cue = jnp.concatenate([batch["keypoints"] / size - 0.5, batch["keypoints_confidence"][..., None]], axis=-1)
    made, decoded = reader.recover(params, fixed, batch["image"], cue * with_cue, jax.random.key(0), **options)
    truth = pose_hands(fixed.hand, axis_angle_to_matrix(batch["pose"]), batch["betas"])
    return {
        "vertices": made.posed.vertices,
        "true_vertices": truth.vertices,
        "keypoints": made.posed.keypoints,
        "true_keypoints": truth.keypoints,
        "mesh_known": batch["mesh_known"],
        "world": batch["keypoints_3d"],
        "world_known": batch["keypoints_3d_known"],
        "places": (project_to_crop(made.posed.keypoints, made.camera) + 0.5) * size,
        "true_places": batch["keypoints"],
        "placed": batch["keypoints_weight"] > 0,
        "box_side": batch["box_side"],
        "confidence": decoded.confidence,
        "hidden": hidden_before(decoded).T,
        "iteration_confidence": decoded.mean_confidence.T,
        "token_right": decoded.tokens == reader.tokenize(fixed, batch["pose"]),
    }
