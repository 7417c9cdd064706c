"""Preparation that MXNet 1.9.1 needs on current Python and NumPy versions before it is imported.

* MXNet uses names that NumPy removed in 1.20, 1.24 and 2.0. They are put back.
* The GPU build needs CUDA libraries that pip installs in folders unknown to the loader. They are loaded in advance.
* MXNet takes half of the processors for hyper-threads and leaves them idle, even where each is a core. The number of
  threads is set to the number of cores.
* Its oneDNN does not use the matrix unit of recent Intel processors by default. It is enabled.
* Memory of freed arrays goes back to the system, and the next array is slow. It is kept.
* A line is written to stderr whenever a graph is fused. It is switched off.
* GluonCV refuses to be imported beside a PyTorch of version 2 or later, which only its PyTorch networks need. Its check
  is answered as if PyTorch were absent, and GluonCV leaves these networks out.

All of this happens when mxnet is imported, by any module, and not when mxnetseg is imported. So ``mxnetseg --help``
loads no CUDA library, and ``mxnetseg doctor`` starts even if NumPy is missing or broken.
"""
from __future__ import annotations

import os
import sys
import warnings
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, Callable

from .errors import EnvironmentProblem

_LAST_NUMPY = 2  # the newest major version that MXNet was tried with
_BUILTINS = {"bool": bool, "int": int, "float": float, "complex": complex, "object": object, "str": str}
# removed in NumPy 2.0 or later -> today's name, or a constant
_RENAMED = {"bool8": "bool_", "float_": "float64", "complex_": "complex128", "alltrue": "all", "sometrue": "any",
            "product": "prod", "cumproduct": "cumprod", "row_stack": "vstack", "trapz": "trapezoid", "round_": "round"}
_CONSTANTS = {"NaN": "nan", "NAN": "nan", "Inf": "inf", "Infinity": "inf", "infty": "inf", "PINF": "inf"}
# removed without a successor under the same signature. MXNet looks these names up when it is imported, no more.
_FINANCIAL = ("mirr", "npv", "pmt", "ppmt", "pv", "rate")  # removed in NumPy 1.20
_LOOKED_UP = (*_FINANCIAL, "find_common_type")


def restore_numpy_names(np: ModuleType | None = None) -> None:
    """Put back the names of NumPy that MXNet 1.9.1 and GluonCV 0.10 use and that current versions lack.

    Args:
        np: the module to change; by default numpy.

    Raises:
        EnvironmentProblem: NumPy is newer than every version that MXNet 1.9.1 was tried with.
    """
    if np is None:
        import numpy as np

    if int(np.__version__.split(".")[0]) > _LAST_NUMPY:
        raise EnvironmentProblem(
            f"MXNet 1.9.1 does not run with NumPy {_LAST_NUMPY + 1} or later",
            received=f"numpy {np.__version__}",
            fix=f"pip install 'numpy<{_LAST_NUMPY + 1}'",
        )

    for name, builtin in _BUILTINS.items():
        _restore(np, name, builtin)
    if int(np.__version__.split(".")[0]) >= 2:
        for name, current in {**_RENAMED, **_CONSTANTS}.items():
            _restore(np, name, getattr(np, current, None))
        _restore(np, "NINF", -np.inf)
        _restore(np, "PZERO", 0.0)
        _restore(np, "NZERO", -0.0)
        _restore(np, "in1d", lambda ar1, ar2, **options: np.isin(ar1, ar2, **options).ravel())
        _restore(np, "msort", lambda a: np.sort(a, axis=0))
    for name in _LOOKED_UP:
        _restore(np, name, _removed(name))


def _restore(np: ModuleType, name: str, value: Any) -> None:
    """Set ``np.name``, unless NumPy has it. ``hasattr`` alone does not decide: it is true for names that only warn."""
    if name in np.__dict__ or value is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name not in _BUILTINS and hasattr(np, name):
            return
    setattr(np, name, value)


def _removed(name: str) -> Callable[..., Any]:
    """Return a function that reports that NumPy removed ``name``."""
    def removed(*args, **kwargs):
        raise AttributeError(f"numpy.{name} was removed from NumPy; mxnetseg restores the name for MXNet's import only")
    return removed


def cores(topology: Path = Path("/sys/devices/system/cpu")) -> list[int]:
    """Return one processor of each physical core that this process may use: the first of its hyper-threads.

    Args:
        topology: folder in which Linux describes the processors. A processor without description is a core.
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
    """Return the number of physical cores that this process may use. See :func:`cores`."""
    return len(cores(topology))


def count_threads() -> int:
    """Return the number of threads that compute: the user's choice in ``OMP_NUM_THREADS``, or one per core."""
    text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(text) if text.isdigit() and int(text) else count_cores()


class BeforeMXNet(MetaPathFinder):
    """Import hook that prepares the process when mxnet is about to be imported, and changes a check of GluonCV."""

    def find_spec(self, fullname, path=None, target=None):
        """Prepare if ``fullname`` is mxnet. Return None, except for GluonCV's check: the other finders look for it."""
        if fullname == "mxnet":
            from ._cuda import use_gpu_build
            from ._memory import keep_freed_memory
            from ._processor import use_amx

            keep_freed_memory()
            restore_numpy_names()
            use_gpu_build()
            use_amx()
            os.environ.setdefault("OMP_NUM_THREADS", str(count_cores()))
            os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")
        elif fullname == "gluoncv.check":
            return _without_pytorch(fullname, path)
        return None


def _without_pytorch(fullname, path):
    """Return the spec of GluonCV's checks, whose check of PyTorch's version reports that PyTorch is absent."""
    spec = PathFinder.find_spec(fullname, path)
    if spec is not None and spec.loader is not None:
        execute = spec.loader.exec_module

        def execute_and_replace(module):
            execute(module)
            module._require_pytorch_version = _absent

        spec.loader.exec_module = execute_and_replace
    return spec


def _absent(*args, **kwargs):
    raise ImportError("mxnetseg uses GluonCV without PyTorch")


def import_optional(module: str, purpose: str, *, fix: str, where: object | None = None) -> Any:
    """Return a module of an optional package.

    Args:
        module: its name, such as ``'safetensors.numpy'``.
        purpose: what needs it, for the message.
        fix: command that installs it, or a way without it.
        where: file or option, for the message.

    Raises:
        EnvironmentProblem: it cannot be imported.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise EnvironmentProblem(f"{purpose} needs {module.partition('.')[0]}, which is not installed", where=where,
                                 received=error, fix=fix) from None


def is_installed(module: str) -> bool:
    """Return whether a module can be imported. It is not imported, and :class:`BeforeMXNet` prepares nothing."""
    if module in sys.modules:
        return sys.modules[module] is not None
    try:
        return any(finder.find_spec(module, None) is not None for finder in sys.meta_path
                   if not isinstance(finder, BeforeMXNet))
    except ImportError:
        return False


def install_hook() -> None:
    """Put :class:`BeforeMXNet` before all other finders, once."""
    if not any(isinstance(finder, BeforeMXNet) for finder in sys.meta_path):
        sys.meta_path.insert(0, BeforeMXNet())


install_hook()
