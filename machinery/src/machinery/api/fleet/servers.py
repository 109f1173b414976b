"""Where federation servers say how each of them is reached: one ConfigMap, one entry a server."""

from machinery.meta.resource import ObjectKey

SERVERS = ObjectKey("ubernetes-system", "federation-servers")
"""Values are URLs. Absent where there is one server only, whose URL every member was given."""
