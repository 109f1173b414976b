"""Container runtimes behind one narrow door: containerd over CRI v1, and a hollow one in memory.

gRPC is told before it is loaded to stay out of forks. Its handlers bring its threads back in every child of this process, and
those crash there now and then before the child has become `ip` or `haproxy`: none of our children uses gRPC.
"""

import os

_ = os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
