"""mxnetseg: semantic segmentation for Apache MXNet, Gluon and GluonCV.

All public names are imported from here::

    from mxnetseg import Predictor, get_model

``import mxnetseg`` is fast: it prepares NumPy for MXNet 1.9.1 (see :mod:`mxnetseg._compat`) and nothing else. A name is
imported from its module on first use (PEP 562), so that ``mxnetseg --help`` and ``mxnetseg doctor`` do not load MXNet.
"""
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import _compat  # noqa: F401  (must run before anything imports mxnet)

if TYPE_CHECKING:
    from .backends.onnx_graph import to_onnx
    from .backends.torch_graph import to_torch
    from .config import Config, list_configs, load_config
    from .data import get_dataset, list_datasets
    from .engine.predictor import Prediction, Predictor
    from .engine.pretrained import from_pretrained
    from .errors import MXNetSegError
    from .export.onnx_float16 import to_float16
    from .metrics import ConfusionMatrix
    from .models import get_model, list_models

__version__ = "0.1.0"

__all__ = [
    "Config",
    "ConfusionMatrix",
    "MXNetSegError",
    "Prediction",
    "Predictor",
    "__version__",
    "from_pretrained",
    "get_dataset",
    "get_model",
    "list_configs",
    "list_datasets",
    "list_models",
    "load_config",
    "to_float16",
    "to_onnx",
    "to_torch",
]

# public name -> module that defines it; a test compares this table with the imports for type checkers above
_MODULES = {
    "Config": "mxnetseg.config",
    "ConfusionMatrix": "mxnetseg.metrics",
    "MXNetSegError": "mxnetseg.errors",
    "Prediction": "mxnetseg.engine.predictor",
    "Predictor": "mxnetseg.engine.predictor",
    "from_pretrained": "mxnetseg.engine.pretrained",
    "get_dataset": "mxnetseg.data",
    "get_model": "mxnetseg.models",
    "list_configs": "mxnetseg.config",
    "list_datasets": "mxnetseg.data",
    "list_models": "mxnetseg.models",
    "load_config": "mxnetseg.config",
    "to_float16": "mxnetseg.export.onnx_float16",
    "to_onnx": "mxnetseg.backends.onnx_graph",
    "to_torch": "mxnetseg.backends.torch_graph",
}

if not TYPE_CHECKING:  # otherwise a type checker would accept every name

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module 'mxnetseg' has no attribute {name!r}")
        value = getattr(import_module(_MODULES[name]), name)
        globals()[name] = value  # later accesses do not come here
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
