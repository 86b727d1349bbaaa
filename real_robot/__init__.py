"""Control loops and drivers for robots; these run policies without importing torch."""
