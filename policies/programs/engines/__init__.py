"""Engines: what runs a program, each by one runtime, with the numbers of eager PyTorch."""
