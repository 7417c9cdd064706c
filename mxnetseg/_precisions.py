"""Names of the precisions that a network computes in.

Options, the configuration and graph rewriting all read them here. This module imports nothing, so that ``--help`` does
not load MXNet. :mod:`mxnetseg.graph.precision` describes them.
"""

PRECISIONS = ("auto", "float32", "bfloat16", "int8", "float16", "plain")
TRAINING_PRECISIONS = ("auto", "float32", "bfloat16", "float16")
