"""ACT, action chunking with transformers: one network call gives a chunk of actions."""
