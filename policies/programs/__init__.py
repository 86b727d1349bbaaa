"""Programs: what a policy computes, as network calls on named memory, and what runs them."""
