"""What steers sampling from outside the network: guides, as `handjax.diffusion.sampling` calls them."""
