"""Rematerialisation: what of the forward pass is kept for the gradient; the rest is computed again."""

from collections.abc import Callable
from typing import Any

import jax

from handjax.errors import ConfigError

Policy = Callable[..., Any]

POLICIES: dict[str, Policy] = {
    # matrix products with weights
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    # what a network has marked by `checkpoint_name(x, "block")`, as a rule the outputs of its residual blocks
    "blocks": jax.checkpoint_policies.save_only_these_names("block"),
}


def remat_policy(name: str) -> Policy | None:
    """Returns the policy that `parallel.remat` names, for `jax.checkpoint`; None for "none", which keeps everything.

    Raises:
      ConfigError: unknown name.
    """
    if name == "none":
        return None
    if name not in POLICIES:
        raise ConfigError(f"parallel.remat={name!r} is unknown; use one of {('none', *POLICIES)}")
    return POLICIES[name]


def recomputed(function: Callable, name: str) -> Callable:
    """The function, of which the gradient keeps what the policy of that name keeps.

    Raises:
      ConfigError: unknown name.
    """
    policy = remat_policy(name)
    return jax.checkpoint(function, policy=policy) if policy else function
