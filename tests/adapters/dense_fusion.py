"""Structural fusion with every map held whole, in NumPy and float64."""

import numpy as np


def dense(q, k, cells):
    """The whole map, then maxima cell by cell; of a coarser one, each cell's share of what its block gets."""
    side = round(q.shape[1] ** 0.5)
    scores = np.einsum("bqhd,bkhd->bhqk", q.astype(np.float64), k) / np.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mean = (weights / weights.sum(-1, keepdims=True)).mean(1)
    result = np.zeros((len(q), cells**2, cells**2))
    if side < cells:
        block_of = [(c // cells * side // cells) * side + c % cells * side // cells for c in range(cells**2)]
        for a in range(cells**2):
            for b in range(cells**2):
                result[:, a, b] = mean[:, block_of[a], block_of[b]] * side**2 / cells**2
        return result
    cell_of = [(t // side * cells // side) * cells + t % side * cells // side for t in range(side**2)]
    for i, a in enumerate(cell_of):
        for j, b in enumerate(cell_of):
            result[:, a, b] = np.maximum(result[:, a, b], mean[:, i, j])
    return result


def dense_refined(features, layers):
    cells = features.shape[1]
    sides = sorted({q.shape[1] for q, _ in layers})
    total = sum(np.mean([dense(q, k, cells) for q, k in layers if q.shape[1] == side], axis=0) for side in sides)
    weights = total / total.sum(-1, keepdims=True)
    rows = [
        [sum(w[q, k] * f.reshape(cells**2, -1)[k] for k in range(cells**2)) for q in range(cells**2)]
        for w, f in zip(weights, features, strict=True)
    ]
    return np.reshape(rows, features.shape)
