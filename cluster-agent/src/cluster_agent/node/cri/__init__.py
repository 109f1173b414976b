"""Container runtimes behind one narrow door: containerd over CRI v1, and a hollow one in memory."""
