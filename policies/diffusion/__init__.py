"""Diffusion policies: sampled from scratch, or streamed from a rolling buffer."""
