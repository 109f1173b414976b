"""Services over clusters on a node: what it knows of other clusters' endpoints becomes slots, names and listeners.

`paths` (which way leads to a peer) and `plan` (what one import, one export means) are pure; `feed` runs them between
informers, service proxy, name server and gateway. Whoever is silent keeps its endpoints here: only the data path, as this
very node measures it, takes them out of use.
"""
