"""From a hand in a photo to what a diffusion model is conditioned on: one code for training and use."""
