"""What trains on a frozen diffusion model and adds to its features."""
