"""The service proxy of a node: Service addresses become endpoints in the kernel, by slot maps of nftables.

`model` (values) -> `slots` (who holds which slot) -> `plan` (what differs) -> `nft` (the door) ; `proxy` runs them.
"""
