"""What MXNet 1.9.1 needs from today's Python before it is imported.

MXNet 1.9.1 still spells ``np.bool``, ``np.int`` and their kin, which NumPy removed in 1.24, and its
GPU build looks for CUDA libraries that pip puts where no loader looks. It also takes half of the
processors for hyper-threads and leaves them idle, where they may be cores, its oneDNN leaves the matrix
unit of recent Intel processors idle, it takes every array afresh from the system, and it writes a line on stderr
whenever a graph is fused. All is mended at the moment when mxnet is imported, by whomever, rather than when mxnetseg
is: so ``mxnetseg --help`` loads no CUDA, and ``mxnetseg doctor`` starts even where NumPy is the problem.
"""
from __future__ import annotations

import os
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Dict, List

from .errors import EnvironmentProblem

_ALIASES = {"bool": bool, "int": int, "float": float, "complex": complex, "object": object, "str": str}


def restore_numpy_aliases() -> None:
    """Put back the aliases of built-in types that NumPy 1.24 removed; refuse NumPy 2.

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


def cores(topology: Path = Path("/sys/devices/system/cpu")) -> List[int]:
    """One processor of each physical core that this process may use: of its hyper-threads the first.

    Args:
        topology: where Linux describes its processors. Where it says nothing, each processor is a core.
    """
    processors = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    first: Dict[str, int] = {}
    for processor in sorted(processors):
        siblings = topology / f"cpu{processor}" / "topology" / "thread_siblings_list"
        try:
            core = siblings.read_text().strip()
        except OSError:
            core = str(processor)
        first.setdefault(core, processor)
    return list(first.values())


def count_cores(topology: Path = Path("/sys/devices/system/cpu")) -> int:
    """Physical cores that this process may use; hyper-threads of one core count once. See :func:`cores`."""
    return len(cores(topology))


class BeforeMXNet(MetaPathFinder):
    """An import hook that finds nothing, but sees ``import mxnet`` coming and prepares for it."""

    def find_spec(self, fullname, path=None, target=None):
        """Prepare if ``fullname`` is mxnet; leave the finding to the finders after this one."""
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
    """Put :class:`BeforeMXNet` before all other finders, once."""
    if not any(isinstance(finder, BeforeMXNet) for finder in sys.meta_path):
        sys.meta_path.insert(0, BeforeMXNet())


install_hook()
