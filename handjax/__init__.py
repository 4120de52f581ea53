"""handjax finds, scores, repairs, generates and reconstructs hands with JAX and Flax."""

__version__ = "0.1.0"
