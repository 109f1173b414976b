"""The DNS server of every node: the cluster's own names from memory, everything else from upstream resolvers.

    listen (sockets) -> resolver -> directory -> records     names of our zones, no I/O
                                 -> forward -> cache         the rest of the world
    inputs (views of the API) -> directory                   what the names say

`wire` and `response` are the codec. It is our own: the libraries at hand parse every message into objects first, which
costs more than the whole answer may, and a name server for pods needs a dozen record types and no more.
"""
