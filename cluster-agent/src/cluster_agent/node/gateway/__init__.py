"""The gateway of a node: Services of other clusters over mutual TLS, by a HAProxy that outlives the node process.

`model` (values) -> `render` (HAProxy's files, pure) -> `process` (starts, adopts, reloads) ; `runtime` asks HAProxy what
it sees, `states` says what that means for peers (pure), and `gateway` runs them.
"""
