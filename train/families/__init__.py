"""Families of policies: how each is prepared for training."""
