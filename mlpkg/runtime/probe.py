"""`python -m mlpkg.runtime.probe [PATH]`: exit code 0 when the server in this container answers 200, else 1.

For an image's health check: no shell, no curl, and as few imports as a request needs.
"""

import os
import socket
import sys


def main(argv: "list[str]") -> int:
    """Ask for a path (``/``) on MLPKG_PORT of this machine."""
    path = argv[0] if argv else "/"
    host = os.environ.get("MLPKG_HOST") or "127.0.0.1"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - any address means this machine too
    try:
        port = int(os.environ.get("MLPKG_PORT") or 5001)
        with socket.create_connection((host, port), timeout=5) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n".encode())
            answer = connection.recv(64)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0 if answer.split(b" ", 2)[1:2] == [b"200"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
