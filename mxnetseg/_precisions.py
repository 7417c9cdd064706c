"""Names of the precisions that a network computes in, and of the backends that compute.

Options, the configuration, backends and graph rewriting all read them here. This module imports no large package, so
that ``--help`` does not load MXNet. :mod:`mxnetseg.graph.precision_phase` describes them.
"""
from typing import NamedTuple

PRECISIONS = ("auto", "float32", "bfloat16", "int8", "float16", "plain")
TRAINING_PRECISIONS = ("auto", "float32", "bfloat16", "float16")
BACKEND_NAMES = ("mxnet", "torch", "onnxruntime", "openvino")  # mxnetseg.backends.choice.BACKENDS


class PrecisionChoice(NamedTuple):
    """A precision and the reason why it was chosen."""

    precision: str
    reason: str
