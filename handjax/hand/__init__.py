"""The hand itself: parametric model, topology, cameras, rasteriser, drawing, fitting."""
