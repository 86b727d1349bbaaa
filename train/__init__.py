"""Training: data, objectives, the optimisation loop, and the command line."""
