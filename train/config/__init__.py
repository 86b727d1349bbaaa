"""Configuration: dataclasses with defaults, and YAML files that choose among them."""
