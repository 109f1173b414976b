"""NetworkPolicies on a node, by nftables.

`model` (values) -> `ledger` (who is selected by what, kept up by differences, pure) -> `layout` (the table as values, pure)
-> `changes` (from one table to another, pure) -> `table` (the kernel kept in step); `enforcer` runs it, `inputs` feeds it.
"""
