"""Logs of the control loop: written as MCAP, read back, recomputed, exported and plotted."""
