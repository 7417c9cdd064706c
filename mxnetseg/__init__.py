"""mxnetseg: semantic segmentation for Apache MXNet / Gluon / GluonCV.

``import mxnetseg`` stays light: it repairs NumPy for MXNet 1.9.1 (see :mod:`mxnetseg._compat`)
and nothing else. MXNet itself is imported by the first name below that needs it.
"""
from . import _compat  # noqa: F401  (first: it must run before anything imports mxnet)

__version__ = "0.1.0"

# Public names and the module that defines each: imported on first use (PEP 562), so that
# `mxnetseg --help` and `mxnetseg doctor` answer without loading MXNet.
_LAZY = {
    "get_model": "mxnetseg.models",
    "list_models": "mxnetseg.models",
    "get_dataset": "mxnetseg.data",
    "list_datasets": "mxnetseg.data",
    "Predictor": "mxnetseg.engine.predictor",
}
__all__ = ["__version__", *_LAZY]


def __getattr__(name):
    if name not in _LAZY:
        raise AttributeError(f"module 'mxnetseg' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)


def __dir__():
    return sorted([*globals(), *_LAZY])
