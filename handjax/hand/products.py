"""Products of many small matrices at once whose last axes count them.

They are written as sums of products of long rows, which a compiler turns into vector instructions; a batch of small
matrix products it would do one after another.
"""

from functools import reduce
from operator import add

from jaxtyping import Array, Float


def matrix_product(first: Float[Array, "n k ..."], second: Float[Array, "k m ..."]) -> Float[Array, "n m ..."]:
    """Products of matrices whose further axes broadcast."""
    return reduce(add, (first[:, k, None] * second[k] for k in range(len(second))))


def vector_product(matrix: Float[Array, "n k ..."], vector: Float[Array, "k ..."]) -> Float[Array, "n ..."]:
    """Products of matrices and vectors whose further axes broadcast."""
    return reduce(add, (matrix[:, k] * vector[k] for k in range(len(vector))))
