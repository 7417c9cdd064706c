"""Time of a program from start to end: ``python -m benchmarks.start TASK``, where TASK is JSON.

``{"command": ["mxnetseg", "--help"], "input": ""}``: one run starts the command with this standard input. This process
imports nothing large, so that it starts others quickly.
"""
from __future__ import annotations

import json
import resource
import subprocess
import sys

from .serve import peak_mib, serve


def main() -> None:
    task = json.loads(sys.argv[1])

    def run():
        done = subprocess.run(task["command"], input=task.get("input", ""), text=True, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE)
        if done.returncode:
            raise SystemExit((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    run()  # reads the files from disk; the timed runs find them in memory
    serve({}, run, end=lambda: {"peak_mib": peak_mib(resource.RUSAGE_CHILDREN)})


if __name__ == "__main__":
    main()
