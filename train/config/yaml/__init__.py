"""Configuration files of `hotloop train` and `hotloop eval`."""
