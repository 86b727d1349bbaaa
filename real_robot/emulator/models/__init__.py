"""MuJoCo models of our own, free of meshes."""
