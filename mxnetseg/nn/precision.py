"""What stays in float32 when a network does not.

``net.cast("float16")`` turns its convolutions to half precision. Not everything bears it: float16 counts to 2048, has
three digits, and ends at 65504, so positions, sums over a whole map and the exponentials of a softmax go wrong. Such
parts take their inputs through :func:`wide` and give back what :func:`as_type_of` makes of their result. In a
network that is float32 both do nothing, and MXNet drops them from what it exports. (float64 stays as it is, but only
where the network is not hybridised: a graph does not know its types.)
"""
from __future__ import annotations

import numpy as np
from mxnet.ndarray import NDArray


def wide(F, x):
    """``x`` in float32."""
    if isinstance(x, NDArray):
        return x if x.dtype in (np.float32, np.float64) else F.cast(x, dtype="float32")
    return F.amp_cast(x, dtype="float32")


def as_type_of(F, y, x):
    """``y``, in float32, in the type of ``x``: its own or a narrower one."""
    if isinstance(x, NDArray):
        return y if x.dtype == y.dtype else F.cast(y, dtype=x.dtype)
    one = F.slice_axis(F.reshape(F.BlockGrad(x), (-1,)), axis=0, begin=0, end=1)  # for its type
    # what is exported loses amp_multicast unless it is the last operator, hence identity(), which works in place
    return F.identity(F.amp_multicast(y, one, num_outputs=2, cast_narrow=True)[0])
