"""Casts for the parts of a network that stay in float32 when the network does not.

``net.cast("float16")`` converts a network's convolutions to half precision. Some parts do not bear it: float16 holds
whole numbers up to 2048, has three digits and ends at 65504, so positions, sums over a whole map and the exponentials
of a softmax go wrong. Such parts cast their inputs with :func:`to_float32` and their result with :func:`as_type_of`.
In a float32 network both do nothing, and MXNet drops them on export. float64 is kept only in networks that are not
hybridised, because a symbol does not know its type.
"""
from __future__ import annotations

import numpy as np
from mxnet.ndarray import NDArray


def to_float32(F, x):
    """Cast ``x`` to float32; an array of float64 stays as it is."""
    if isinstance(x, NDArray):
        return x if x.dtype in (np.float32, np.float64) else F.cast(x, dtype="float32")
    return F.amp_cast(x, dtype="float32")


def as_type_of(F, y, x):
    """Cast ``y``, which is float32, to the type of ``x``, which is float32 or narrower."""
    if isinstance(x, NDArray):
        return y if x.dtype == y.dtype else F.cast(y, dtype=x.dtype)
    one = F.slice_axis(F.reshape(F.BlockGrad(x), (-1,)), axis=0, begin=0, end=1)  # carries the type of x
    # export drops amp_multicast unless it is the last operator, hence identity(), which works in place
    return F.identity(F.amp_multicast(y, one, num_outputs=2, cast_narrow=True)[0])
