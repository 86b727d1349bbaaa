"""The whole way once: `hotloop demo` and its report."""
