"""Starts a command, gives it a line, waits for it, and prints what it said, its status and its peak by the kernel.

    python -S benchmarks/waited.py '[["command", "argument"], {"NAME": "environment"}, "a line of input"]'

A program of its own and a small one, since ru_maxrss of a child begins with the memory of the process that starts it.
"""

import json
import os
import sys

line, environment, asked = json.loads(sys.argv[1])
into, out = os.pipe(), os.pipe()
os.write(into[1], asked.encode())
os.close(into[1])
pid = os.posix_spawn(
    line[0], line, environment, file_actions=[(os.POSIX_SPAWN_DUP2, into[0], 0), (os.POSIX_SPAWN_DUP2, out[1], 1)]
)
os.close(out[1])
said = os.read(out[0], 65536).decode()
_, status, usage = os.wait4(pid, 0)
print(json.dumps([said, status, usage.ru_maxrss * 1024]))
