"""Measurements: latency of control steps, and where a number comes from."""
