"""Policies as graphs that need no PyTorch: what `hotloop export` writes."""
