"""Preparations for MXNet 1.9.1 on current Python versions, made when ``mxnet`` is imported.

* MXNet 1.9.1 uses ``np.bool``, ``np.int`` and other aliases, which NumPy removed in 1.24.
* Its GPU build needs CUDA libraries, which pip installs where the dynamic loader does not search.
* It takes half of the processors for hyper-threads and leaves them idle, although they may be cores.
* Its oneDNN does not use the matrix unit of recent Intel processors.
* It allocates every array anew from the system.
* It writes a line to stderr whenever a graph is fused.

An import hook fixes all of this when any code imports ``mxnet``, not when it imports ``mxnetseg``. So ``mxnetseg
--help`` loads no CUDA libraries, and ``mxnetseg doctor`` starts even if NumPy is the problem.
"""
from __future__ import annotations

import os
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path

from .errors import EnvironmentProblem

_ALIASES = {"bool": bool, "int": int, "float": float, "complex": complex, "object": object, "str": str}


def restore_numpy_aliases() -> None:
    """Restore the aliases of built-in types that NumPy 1.24 removed; refuse NumPy 2.

    Raises:
        EnvironmentProblem: NumPy is 2 or later, where MXNet 1.9.1 cannot be imported at all.
    """
    import numpy as np

    if int(np.__version__.split(".")[0]) >= 2:
        raise EnvironmentProblem(
            "MXNet 1.9.1 does not run with NumPy 2",
            received=f"numpy {np.__version__}",
            fix="pip install 'numpy<2'",
        )
    for name, builtin in _ALIASES.items():
        if name not in np.__dict__:  # hasattr() would trigger NumPy's own deprecation machinery
            setattr(np, name, builtin)


def cores(topology: Path = Path("/sys/devices/system/cpu")) -> list[int]:
    """Return one processor of each physical core that this process may use: the first of its hyper-threads.

    Args:
        topology: folder in which Linux describes its processors. A processor without a description is a core.
    """
    processors = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    first: dict[str, int] = {}
    for processor in sorted(processors):
        siblings = topology / f"cpu{processor}" / "topology" / "thread_siblings_list"
        try:
            core = siblings.read_text().strip()
        except OSError:
            core = str(processor)
        first.setdefault(core, processor)
    return list(first.values())


def count_cores(topology: Path = Path("/sys/devices/system/cpu")) -> int:
    """Return the number of physical cores that this process may use; see :func:`cores`."""
    return len(cores(topology))


class BeforeMXNet(MetaPathFinder):
    """Import hook that finds no module, but prepares the process when ``mxnet`` is about to be imported."""

    def find_spec(self, fullname, path=None, target=None):
        """Prepare the process if ``fullname`` is mxnet; later finders find the module."""
        if fullname == "mxnet":
            from ._cuda import use_gpu_build
            from ._memory import keep_freed_memory
            from ._processor import use_amx

            keep_freed_memory()
            restore_numpy_aliases()
            use_gpu_build()
            use_amx()
            os.environ.setdefault("OMP_NUM_THREADS", str(count_cores()))
            os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")
        return None


def install_hook() -> None:
    """Install :class:`BeforeMXNet` before all other finders, once."""
    if not any(isinstance(finder, BeforeMXNet) for finder in sys.meta_path):
        sys.meta_path.insert(0, BeforeMXNet())


install_hook()
