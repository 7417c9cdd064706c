"""Losses on and near the boundaries between classes: Xu, Xiong & Bhattacharyya, CVPR 2023 (PIDNet), section 3.5."""
from __future__ import annotations

from mxnet.gluon import HybridBlock

_SURE = 0.8  # probability of a boundary from which on BoundaryAware looks at a pixel


class BoundaryLoss(HybridBlock):
    """Logistic loss that balances boundary pixels and all others by their number: l1 of equation 5.

    With m of n pixels on a boundary, a boundary pixel weighs (n - m) / n and another one m / n; the mean is over all
    pixels of the batch, as in the authors' code. The loss finds the boundaries in the label: see :func:`boundaries`.

    logits: (N, 1, H, W); label: (N, H, W) -> two (1,) tensors, a sum and its divisor.

    Args:
        ignore: the label that does not count.
    """

    def __init__(self, *, ignore: int = 255):
        super().__init__()
        self._ignore = ignore

    def hybrid_forward(self, F, logits, label):
        return balanced_logistic(F, logits, boundaries(F, label, ignore=self._ignore))


class BoundaryAware(HybridBlock):
    """A loss over the pixels that the network itself takes for a boundary: l3 of equation 5.

    logits: (N, C, H, W), boundary: (N, 1, H, W) logits, label: (N, H, W) -> what ``loss`` returns for the pixels with a
    probability of a boundary above 0.8. The boundary's logits get no gradient. (0, 0) where there is no such pixel.

    Args:
        loss: ``loss(logits, label)``, which ignores the label ``ignore``.
        ignore: the label that does not count.
    """

    def __init__(self, loss: HybridBlock, *, ignore: int = 255):
        super().__init__()
        self._ignore = ignore
        self.loss = loss

    def hybrid_forward(self, F, logits, boundary, label):
        is_near = F.sigmoid(F.cast(F.BlockGrad(boundary), "float32")) > _SURE
        label = F.cast(label, "float32")
        is_near = F.reshape(is_near, (0, -3, -2))  # (N, H, W)
        return self.loss(logits, F.where(is_near, label, self._ignore * F.ones_like(label)))


def balanced_logistic(F, logits, edge):
    """Return the balanced logistic loss as (sum, divisor), two (1,) tensors.

    Args:
        F: ``mxnet.nd`` or ``mxnet.sym``.
        logits: (N, 1, H, W).
        edge: (N, 1, H, W), 1 on a boundary, else 0.
    """
    logits = F.cast(logits, "float32")
    count, edges = F.sum(F.ones_like(edge)), F.sum(edge)
    part = F.reshape(F.broadcast_div(edges, count), (1, 1, 1, 1))
    weight = F.broadcast_mul(edge, 1 - part) + F.broadcast_mul(1 - edge, part)
    # log(1 + exp(z)) - z y, without overflow
    logistic = F.relu(logits) - logits * edge + F.log1p(F.exp(-F.abs(logits)))
    return F.sum(weight * logistic), count


def boundaries(F, label, *, ignore: int = 255):
    """Find the labelled pixels within two pixels of another class.

    The authors' code finds edges with Canny's operator on the whole image and widens them to four pixels; so wide are
    these. Unlike there, the border to unlabelled pixels is no boundary: it would be one around every padded crop.

    Args:
        F: ``mxnet.nd`` or ``mxnet.sym``.
        label: (N, H, W), any type.
        ignore: the label that does not count.

    Returns:
        (N, 1, H, W) float32, 1 on a boundary, else 0.
    """
    label = F.expand_dims(F.cast(label, "float32"), 1)
    valid = label != ignore
    pool = {"kernel": (5, 5), "pad": (2, 2), "pool_type": "max"}
    highest = F.Pooling(F.where(valid, label, -F.ones_like(label)), **pool)
    lowest = -F.Pooling(F.where(valid, -label, -ignore * F.ones_like(label)), **pool)
    return (highest > lowest) * valid
