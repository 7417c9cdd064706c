"""How long a program takes from its start to its end: ``python -m benchmarks.start TASK``, TASK being JSON.

``{"command": ["mxnetseg", "--help"], "input": ""}``: one turn runs the command once, with that on standard input. This
process itself imports nothing heavy, so that starting others from it is quick.
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
    run()  # once for the disk: what is measured is a start from memory
    serve({}, run, end=lambda: {"peak_mib": peak_mib(resource.RUSAGE_CHILDREN)})


if __name__ == "__main__":
    main()
