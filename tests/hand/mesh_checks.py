"""Geometry that several tests of the hand measure with."""

from collections import Counter

import numpy as np


def boundary(faces):
    """Directed edges of the mesh's rim, after checking that every other edge is used once in each direction."""
    faces = np.asarray(faces)
    edges = Counter(map(tuple, np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).tolist()))
    assert set(edges.values()) == {1}
    return {start: end for start, end in edges if (end, start) not in edges}


def capped(vertices, faces):
    rim = boundary(faces)
    vertices = np.asarray(vertices, np.float64)
    center = vertices[list(rim)].mean(0)
    cap = [[end, start, len(vertices)] for start, end in rim.items()]
    return np.vstack([vertices, center]), np.vstack([faces, cap])


def winding_number(points, vertices, faces):
    """How often a closed mesh encloses each point: 1 inside, 0 outside, 2 where it overlaps itself.

    Source: van Oosterom and Strackee, "The Solid Angle of a Plane Triangle", 1983.
    """
    a, b, c = (vertices[faces[:, k]] - np.asarray(points, np.float64)[:, None] for k in range(3))
    la, lb, lc = (np.linalg.norm(corner, axis=-1) for corner in (a, b, c))
    triple = (a * np.cross(b, c)).sum(-1)
    rest = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (c * a).sum(-1) * lb
    return 2 * np.arctan2(triple, rest).sum(-1) / (4 * np.pi)
