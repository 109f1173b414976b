"""Does it fit, and how well: filters and scores of a pod on nodes. Pure; numpy where it pays."""
