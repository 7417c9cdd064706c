"""Losses on and near the boundaries between classes: Xu, Xiong & Bhattacharyya, CVPR 2023 (PIDNet), section 3.5."""
from __future__ import annotations

from mxnet.gluon import HybridBlock

_THRESHOLD = 0.8  # BoundaryAware keeps the pixels with a higher probability of a boundary


class BoundaryLoss(HybridBlock):
    """Logistic loss that balances boundary pixels and other pixels by their numbers: l1 of equation 5.

    If m of n pixels lie on a boundary, a boundary pixel has weight (n - m) / n and any other pixel m / n. The mean is
    over all pixels of the batch, as in the authors' code. The boundaries follow from the label, see
    :func:`boundaries`.

    logits: (N, 1, H, W), label: (N, H, W) -> two (1,) tensors, a sum and its divisor.

    Args:
        ignore: label of the ignored pixels.
    """

    def __init__(self, *, ignore: int = 255):
        super().__init__()
        self._ignore = ignore

    def hybrid_forward(self, F, logits, label):
        return balanced_logistic(F, logits, boundaries(F, label, ignore=self._ignore))


class BoundaryAware(HybridBlock):
    """Loss over the pixels that the network predicts to be a boundary: l3 of equation 5.

    logits: (N, C, H, W), boundary: (N, 1, H, W) logits, label: (N, H, W) -> (sum, divisor) of ``loss`` over the pixels
    whose probability of a boundary is above 0.8; (0, 0) if there is none. The boundary's logits get no gradient.

    Args:
        loss: ``loss(logits, label)``, which ignores the label ``ignore``.
        ignore: label of the ignored pixels.
    """

    def __init__(self, loss: HybridBlock, *, ignore: int = 255):
        super().__init__()
        self._ignore = ignore
        self.loss = loss

    def hybrid_forward(self, F, logits, boundary, label):
        is_near = F.sigmoid(F.cast(F.BlockGrad(boundary), "float32")) > _THRESHOLD
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
    edge_fraction = F.reshape(F.broadcast_div(edges, count), (1, 1, 1, 1))
    weight = F.broadcast_mul(edge, 1 - edge_fraction) + F.broadcast_mul(1 - edge, edge_fraction)
    # log(1 + exp(z)) - z y, without overflow
    logistic = F.relu(logits) - logits * edge + F.log1p(F.exp(-F.abs(logits)))
    return F.sum(weight * logistic), count


def boundaries(F, label, *, ignore: int = 255):
    """Return the labelled pixels within two pixels of another class.

    The authors' code detects edges with Canny's operator on the whole label and widens them to four pixels, the same
    width as here. Unlike there, the border to unlabelled pixels is not a boundary, because every padded crop has one.

    Args:
        F: ``mxnet.nd`` or ``mxnet.sym``.
        label: (N, H, W), any type.
        ignore: label of the ignored pixels.

    Returns:
        (N, 1, H, W) float32, 1 on a boundary, else 0.
    """
    label = F.expand_dims(F.cast(label, "float32"), 1)
    valid = label != ignore
    pool = {"kernel": (5, 5), "pad": (2, 2), "pool_type": "max"}
    highest = F.Pooling(F.where(valid, label, -F.ones_like(label)), **pool)
    lowest = -F.Pooling(F.where(valid, -label, -ignore * F.ones_like(label)), **pool)
    return (highest > lowest) * valid
