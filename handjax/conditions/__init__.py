"""From a hand in a photo to what a diffusion model is conditioned on: one code for training and use."""

from handjax.conditions.photo import HandConditions, conditions_from_hand, conditions_from_hands

__all__ = ["HandConditions", "conditions_from_hand", "conditions_from_hands"]
