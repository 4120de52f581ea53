"""Builds handjax/assets/open_hand.npz, the open hand, from MakeHuman's data: python -m launch.assets.open_hand"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls
from scipy.spatial.transform import Rotation

from handjax.files import atomic_write
from handjax.hand.angles import frames_of_skeleton, palm_frame
from handjax.hand.model import OPEN_HAND
from handjax.hand.topology import MANO_JOINT_NAMES, MANO_PARENTS
from launch import command
from launch.assets import makehuman
from launch.assets.proportions import SIZE_SPREAD, growth, growth_spread, mean_growth, thumb_places

SAMPLES = 400
SEED = 0
SHAPE_DIRECTIONS = 9
METRES = 0.1

# two neighbours on the closed edge loops around the arm: 14 mm above the wrist joint, and below the elbow
WRIST_LOOP, FOREARM_LOOP = (3532, 3542), (3430, 3440)
FINGERTIP_VERTEX = 2090

# MakeHuman counts the fingers from the thumb and the joints from the palm
_CUBE_FINGERS = {"thumb": 1, "index": 2, "middle": 3, "ring": 4, "little": 5}
_CUBE_PARTS = {"mcp": 1, "pip": 2, "dip": 3}
_CUBE_THUMB_PARTS = {"cmc": 1, "mcp": 2, "ip": 3}

# Share of the way to the carpus by which a knuckle moves back: index and middle finger, so that the lengths of their
# proximal and middle phalanx have the ratio of Buryanov and Kotiuk, "Proportions of Hand Segments", 2010; the others,
# so that they stay behind the middle finger's knuckle by as much as their metacarpals are shorter there. And of the
# thumb's base to the wrist.
_KNUCKLE_SHIFTS = {"index": 0.209, "middle": 0.195, "ring": 0.28, "little": 0.26}
_THUMB_BASE_SHIFT = 0.25

# half the length over which the skin goes from one bone to the next, metres: about a third of the joint's thickness
_BLEND = {"mcp": 0.014, "pip": 0.007, "dip": 0.006}
_SMOOTHING_ROUNDS = 4
# vertices nearest to a joint among which the regressor chooses
_REGRESSOR_VERTICES = 150
_CUBE_METACARPALS = {"index": 1, "middle": 2, "ring": 3, "little": 4}


@dataclass(frozen=True)
class Arm:
    """The right arm cut out of the body: base-mesh indices of its vertices (the hand's first), quads, their UVs."""

    vertices: np.ndarray
    hand_count: int
    quads: np.ndarray
    quad_uv: np.ndarray


def _edge_loop(quads: np.ndarray, start: tuple[int, int]) -> set[int]:
    """Vertices of the loop that goes straight on through every vertex of four quads."""
    at: dict[int, list[np.ndarray]] = {}
    for quad in quads:
        for vertex in quad:
            at.setdefault(vertex, []).append(quad)
    loop = list(start)
    while True:
        before, here = loop[-2:]
        beside = {v for quad in at[here] if before in quad for v in quad}
        neighbours = {quad[(list(quad).index(here) + step) % 4] for quad in at[here] for step in (1, 3)}
        (ahead,) = neighbours - beside
        if ahead == start[0]:
            return set(loop)
        loop.append(ahead)


def _reachable(quads: np.ndarray, loop: set[int]) -> set[int]:
    """Indices of the quads between the fingertips and a loop around the arm."""
    at: dict[int, list[int]] = {}
    for index, quad in enumerate(quads):
        for vertex in quad:
            at.setdefault(vertex, []).append(index)
    front, seen = list(at[FINGERTIP_VERTEX]), set(at[FINGERTIP_VERTEX])
    while front:
        for vertex in set(quads[front.pop()]) - loop:
            new = set(at[vertex]) - seen
            seen |= new
            front.extend(new)
    return seen


def cut_arm(mesh: makehuman.BaseMesh) -> Arm:
    """Cuts the hand and the forearm along closed edge loops, so that both end in a clean ring."""
    hand = _reachable(mesh.quads, _edge_loop(mesh.quads, WRIST_LOOP))
    whole = sorted(_reachable(mesh.quads, _edge_loop(mesh.quads, FOREARM_LOOP)), key=lambda q: (q not in hand, q))
    hand_vertices = np.unique(mesh.quads[sorted(hand)])
    vertices = np.concatenate([hand_vertices, np.setdiff1d(mesh.quads[whole], hand_vertices)])
    renumber = np.full(len(mesh.vertices), -1)
    renumber[vertices] = np.arange(len(vertices))
    return Arm(vertices, len(hand_vertices), renumber[mesh.quads[whole]], mesh.quad_uv[whole])


def joints_of_body(body: np.ndarray, cubes: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """16 joints and 5 tips of a body, any unit.

    MakeHuman puts the knuckles where the fingers part, a finger's breadth too far out, and the thumb's base too far
    from the wrist. Both are moved back towards the carpus.
    """

    def joint(finger, number):
        return body[cubes[f"finger-{_CUBE_FINGERS[finger]}-{number}"]].mean(0)

    wrist = body[cubes["hand"]].mean(0)
    heads = [wrist]
    for name in MANO_JOINT_NAMES[1:]:
        finger, part = name.split("_")
        heads.append(joint(finger, (_CUBE_THUMB_PARTS if finger == "thumb" else _CUBE_PARTS)[part]))
    joints = np.array(heads)
    for finger, shift in _KNUCKLE_SHIFTS.items():
        mcp = MANO_JOINT_NAMES.index(f"{finger}_mcp")
        carpus = body[cubes["hand-3" if finger in ("index", "middle") else "hand-2"]].mean(0)
        joints[mcp] += shift * (carpus - joints[mcp])
    joints[13] += _THUMB_BASE_SHIFT * (wrist - joints[13])
    return joints, np.array([joint(finger, 4) for finger in _CUBE_FINGERS])


def to_palm(points: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Moves points into the template's frame: wrist at the origin, x radial, y away from the fingers, z dorsal."""
    radial, distal, dorsal = np.asarray(palm_frame(joints), np.float64).T
    return (points - joints[0]) @ np.stack([radial, -distal, dorsal], axis=1)


def skin(vertices, joints, weights, rotations):
    """Linear blend skinning of vertices [V, 3] and joints [16, 3] by rotations [16, 3, 3] relative to the parents."""
    turns, moved = [rotations[0]], [joints[0]]
    for child, parent in enumerate(MANO_PARENTS[1:], start=1):
        turns.append(turns[parent] @ rotations[child])
        moved.append(moved[parent] + turns[parent] @ (joints[child] - joints[parent]))
    per_joint = np.einsum("jab,jvb->jva", np.array(turns), vertices - joints[:, None]) + np.array(moved)[:, None]
    return np.einsum("vj,jva->va", weights, per_joint), np.array(moved)


def straightening(joints: np.ndarray, tips: np.ndarray) -> np.ndarray:
    """Rotations [16, 3, 3] that bend the fingers at their anatomical axes into the plane of the palm."""
    frames = np.asarray(frames_of_skeleton(joints, tips), np.float64)
    rotations = np.tile(np.eye(3), (16, 1, 1))
    for mcp in range(1, 13, 3):
        bend = 0.0
        for joint in range(mcp, mcp + 3):
            flexion, _, bone = frames[joint].T
            palmar = np.cross(flexion, bone)
            total = np.arctan2(bone[2], -palmar[2])
            rotations[joint] = Rotation.from_rotvec((total - bend) * flexion).as_matrix()
            bend = total
    return rotations


def _smooth(weights: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """Averages the weights of each vertex with the mean of its neighbours', a few times."""
    edges = np.concatenate([quads[:, [k, (k + 1) % 4]] for k in range(4)])
    edges = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
    degree = np.bincount(edges[:, 0], minlength=len(weights))[:, None]
    for _ in range(_SMOOTHING_ROUNDS):
        total = np.zeros_like(weights)
        np.add.at(total, edges[:, 0], weights[edges[:, 1]])
        weights = (weights + total / degree) / 2
    return weights


def skin_weights(arm: Arm, vertices: np.ndarray, joints: np.ndarray, bones: dict[str, np.ndarray]) -> np.ndarray:
    """Weights [V, 16]: which finger from MakeHuman's weights, how far along the finger from the moved joints.

    The metacarpals belong to the wrist; they only tell which finger a vertex of the palm continues.
    """
    bones = {name: weight[arm.vertices] for name, weight in bones.items()}
    weights = np.zeros((len(vertices), 16))
    for part in range(3):
        weights[:, 13 + part] = bones[f"finger1-{part + 1}"]
    fingers = {
        name: sum(bones[f"finger{_CUBE_FINGERS[name]}-{part}"] for part in (1, 2, 3)) + bones[f"metacarpal{metacarpal}"]
        for name, metacarpal in _CUBE_METACARPALS.items()
    }
    others = (1 - weights.sum(1)) / np.maximum(sum(fingers.values()), 1e-6)
    for name, share in fingers.items():
        mcp = MANO_JOINT_NAMES.index(f"{name}_mcp")
        knuckle, pip, dip = joints[mcp : mcp + 3]
        beyond = share * others
        ends = np.stack([joints[0], knuckle, pip, dip, 2 * dip - pip])
        directions = np.diff(ends, axis=0)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        for k, half in enumerate(_BLEND.values()):
            across = directions[k] + directions[k + 1]
            t = (vertices - joints[mcp + k]) @ (across / np.linalg.norm(across)) / (2 * half) + 0.5
            t = np.clip(t, 0, 1)
            passed = beyond * t * t * (3 - 2 * t)
            if k:
                weights[:, mcp + k - 1] -= passed
            weights[:, mcp + k] = beyond = passed
    weights[:, 0] = (1 - weights[:, 1:].sum(1)).clip(0)
    return _smooth(weights, arm.quads)


def flat_hand(body: np.ndarray, arm: Arm, cubes, weights: np.ndarray, rotations: np.ndarray):
    """Vertices [V, 3] and joints [16, 3] of a body's arm in the template's frame and pose, metres."""
    joints, _ = joints_of_body(body * METRES, cubes)
    vertices, joints = to_palm(body[arm.vertices] * METRES, joints), to_palm(joints, joints)
    return skin(vertices, joints, weights, rotations)


def _size(skeleton: np.ndarray) -> float:
    """Length from the wrist to the middle finger's last joint."""
    return np.linalg.norm(np.diff(skeleton[[0, 4, 5, 6]], axis=0), axis=1).sum()


def of_equal_size(hands: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Vertices followed by joints [N, V + 16, 3] of hands scaled to the size of a skeleton [16, 3]."""
    return np.array([hand * (_size(joints) / _size(hand[-16:])) for hand in hands])


def shape_space(mean: np.ndarray, variations: np.ndarray, hand_count: int) -> np.ndarray:
    """Shape directions [V + 16, 3, S] of vertices and joints, each one standard deviation.

    The first is size, the others are the principal components of hands of equal size. The forearm follows the hand's
    components.

    Args:
        mean: vertices and joints [V + 16, 3] of the average hand.
        variations: deviations [R, V + 16, 3] from it, whose outer products sum to the covariance.
        hand_count: number of the hand's vertices.
    """
    offsets = variations.reshape(len(variations), -1)
    scores, spread, _ = np.linalg.svd(offsets[:, : 3 * hand_count], full_matrices=False)
    explained = (spread[:SHAPE_DIRECTIONS] ** 2).sum() / (spread**2).sum()
    print(f"{SHAPE_DIRECTIONS} components explain {explained:.2%} of the shapes of equal size")
    components = (scores[:, :SHAPE_DIRECTIONS].T @ offsets).reshape(SHAPE_DIRECTIONS, -1, 3)
    return np.moveaxis(np.concatenate([SIZE_SPREAD * mean[None], components]), 0, -1)


def regress_joints(template, shapedirs, joints, joint_dirs) -> np.ndarray:
    """Convex weights [16, V] of hand vertices that give the joints of every shape, by non-negative least squares."""
    shapes = np.concatenate([template[..., None], shapedirs], axis=-1)
    targets = np.concatenate([joints[..., None], joint_dirs], axis=-1)
    regressor = np.zeros((16, len(template)))
    for joint, target in enumerate(targets):
        near = np.argsort(np.linalg.norm(template - joints[joint], axis=1))[:_REGRESSOR_VERTICES]
        equations = np.moveaxis(shapes[near] - target, 0, -1).reshape(-1, len(near))
        ridge = 1e-3 * np.eye(len(near))
        system = np.concatenate([equations, ridge, np.full((1, len(near)), 1.0)])
        weights, _ = nnls(system, np.concatenate([np.zeros(len(system) - 1), [1.0]]))
        regressor[joint, near] = weights / weights.sum()
    error = np.linalg.norm(np.einsum("jv,vad->jad", regressor, shapes) - targets, axis=1)
    print(
        f"regressed joints: {1000 * error[:, 0].max():.2f} mm off, shape directions {1000 * error[:, 1:].max():.2f} mm"
    )
    return regressor


def triangles(vertices: np.ndarray, arm: Arm) -> tuple[np.ndarray, np.ndarray]:
    """Faces [F, 3] and UVs [F, 3, 2] of the quads, each cut along its shorter diagonal."""
    corner = vertices[arm.quads]
    first = np.linalg.norm(corner[:, 0] - corner[:, 2], axis=1) <= np.linalg.norm(corner[:, 1] - corner[:, 3], axis=1)
    cuts = np.where(first[:, None, None], [[0, 1, 2], [0, 2, 3]], [[0, 1, 3], [1, 2, 3]])
    row = np.arange(len(arm.quads))[:, None, None]
    return arm.quads[row, cuts].reshape(-1, 3), arm.quad_uv[row, cuts].reshape(-1, 3, 2)


def varied_hands(average: np.ndarray, hands: np.ndarray, tip_vertices: list[int], weights: np.ndarray):
    """Mean hand [V + 16, 3] and variations [R, V + 16, 3], as `shape_space` takes them.

    MakeHuman's random hands [N, V + 16, 3] vary in all but the lengths of the bones, which are those of adults.
    """

    def skeleton(points):
        return np.concatenate([points[-16:], points[tip_vertices]])

    moves = growth(average, skeleton(average), weights)
    mean = average + np.tensordot(mean_growth(skeleton(average)), moves, 1)
    arguments = mean, skeleton(mean), weights
    moves = np.concatenate([growth_spread()[:, None, None] * growth(*arguments), thumb_places(*arguments)])
    grown = of_equal_size(mean + moves, mean[-16:]) - mean
    hands = of_equal_size(hands, average[-16:])
    return mean, np.concatenate([grown, (hands - hands.mean(0)) / np.sqrt(len(hands))])


def build() -> dict[str, np.ndarray]:
    """All arrays of the asset, metres, in the frame that `handjax.hand.model` describes."""
    mesh, cubes = makehuman.read_base_mesh(), makehuman.read_joint_cubes()
    arm, mean = cut_arm(mesh), makehuman.mean_body(mesh.vertices)
    joints, tips = joints_of_body(mean * METRES, cubes)
    vertices, tips, joints = (to_palm(points, joints) for points in (mean[arm.vertices] * METRES, tips, joints))
    weights = skin_weights(arm, vertices, joints, makehuman.read_skin_weights(len(mesh.vertices)))
    rotations = straightening(joints, tips)
    tip_vertices = [int(np.argmin(np.linalg.norm(vertices - tip, axis=1))) for tip in tips]

    bodies = [mean, *makehuman.random_bodies(mesh.vertices, SAMPLES, SEED)]
    average, *hands = (np.concatenate(flat_hand(body, arm, cubes, weights, rotations)) for body in bodies)
    shape, variations = varied_hands(average, np.array(hands), tip_vertices, weights)
    directions = shape_space(shape, variations, arm.hand_count)
    template, shapedirs = shape[:-16], directions[:-16]
    hand = slice(arm.hand_count)
    regressor = np.zeros((16, len(template)))
    regressor[:, hand] = regress_joints(template[hand], shapedirs[hand], shape[-16:], directions[-16:])
    faces, face_uv = triangles(template, arm)
    return {
        "template": template.astype(np.float32),
        "shapedirs": shapedirs.astype(np.float32),
        "skin_weights": weights.astype(np.float32),
        "joint_regressor": regressor.astype(np.float32),
        "tip_regressor": np.eye(len(template), dtype=np.float32)[tip_vertices],
        "faces": faces.astype(np.int32),
        "face_uv": face_uv.astype(np.float32),
        "hand_vertices": np.int32(arm.hand_count),
    }


def main() -> None:
    """Writes the asset."""
    arrays = build()
    with atomic_write(OPEN_HAND) as path, path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    print(f"{OPEN_HAND.name}: {arrays['hand_vertices']} vertices, {len(arrays['template'])} with the forearm")


if __name__ == "__main__":
    command.run(main)
