"""OpenVLA (Kim et al. 2024, arXiv 2406.09246) as a host, from its published layout."""
