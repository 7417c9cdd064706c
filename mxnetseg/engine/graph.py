"""Compiling a block into one graph."""
from __future__ import annotations

from mxnet.gluon import HybridBlock


def compile_outermost(block: HybridBlock, **flags) -> HybridBlock:
    """Hybridise ``block`` but not its children, and return it.

    The children are traced into its graph all the same. ``hybridize()`` would switch them too, and a
    network on CPU contexts in lockstep must stay imperative for training while the blocks around it
    are compiled for inference.

    Args:
        flags: as for ``hybridize``: ``static_alloc=True``.
    """
    block.hybridize(False)  # also forgets older graphs
    block._flags = list(flags.items())
    block._active = True
    return block
