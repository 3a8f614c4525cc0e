"""A service manager that binds for what it starts: `python -m tests.e2e.activated COMMAND...`.

It binds the listener's address in the configuration file that ends the command, without
SO_REUSEPORT unless `REUSEPORT` is set in the environment, and becomes that command, with the
socket as the first one beyond standard error.
"""

import fcntl
import os
import socket
import sys
from pathlib import Path

import yaml

FIRST_FD = 3


def main(command: list[str]) -> None:
    listen = yaml.safe_load(Path(command[-1]).read_text())["listen"]
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int("REUSEPORT" in os.environ))
    udp.bind((listen["address"], listen["port"]))
    high = fcntl.fcntl(udp, fcntl.F_DUPFD_CLOEXEC, 100)
    udp.close()
    os.dup2(high, FIRST_FD, inheritable=True)
    passed = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
    os.execve(command[0], command, {**os.environ, **passed})


if __name__ == "__main__":
    main(sys.argv[1:])
