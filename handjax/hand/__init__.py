"""The hand itself: topology, rotations, the parametric model, cameras, rasteriser, drawing, fitting."""
