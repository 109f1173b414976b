"""A stand-in program for supervisor tests: it listens, says its pid to whoever connects, and obeys SIGTERM."""

import os
import signal
import socket
import sys


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    print(f"listening on {sys.argv[1]}", flush=True)
    while True:
        connection, _ = server.accept()
        connection.sendall(f"{os.getpid()}\n".encode())
        connection.close()


if __name__ == "__main__":
    main()
