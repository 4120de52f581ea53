"""Stable Diffusion in Flax: UNet, VAE, text encoder, noise schedules and samplers."""
