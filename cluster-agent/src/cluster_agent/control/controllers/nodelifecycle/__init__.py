"""Node lifecycle: a node that is silent is unknown, tainted, and at last emptied; but never all of them at once."""
