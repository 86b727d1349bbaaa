"""Trajectory planners: Diffuser, Decision Diffuser and Trajectory Diffuser from the same parts."""
