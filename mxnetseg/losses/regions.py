"""Losses on whole regions: dice and Lovász-softmax, close to the scores by which segmentation is judged.

They are no sums over pixels: a class's score over several pictures is not the mean of its scores over each. With
``per_image`` each picture has its own, and the mean over the global batch is exact however it is dealt out to devices;
otherwise each device scores its share as one picture.
"""
from __future__ import annotations

from mxnet.gluon import HybridBlock

from ..nn.resize import length


class RegionLoss(HybridBlock):
    """What the two have in common: probabilities and labels, class by class.

    logits: (N, C, H, W); label: (N, H, W), any type, ``ignore`` where unlabelled -> two (1,) tensors, the sum
    over the pictures of the mean over their classes, and the number of pictures that have a labelled pixel. An
    all-ignored batch gives (0, 0). Computed in float32 whatever the type of the logits.

    Args:
        nclass: C.
        per_image: a score for each picture; False: one for the device's batch.
        classes: over which classes of a picture the mean is taken: ``'present'``, those in its label, or ``'all'``.
        ignore: the label that does not count.
    """

    def __init__(self, nclass: int, *, per_image: bool = True, classes: str = "present", ignore: int = 255):
        super().__init__()
        self._nclass, self._per_image, self._ignore = nclass, per_image, ignore
        self._every_class = {"present": False, "all": True}[classes]

    def hybrid_forward(self, F, logits, label):
        p = F.softmax(F.cast(logits, "float32"), axis=1)
        label = F.cast(label, "float32")
        valid = label != self._ignore
        p, label, valid = F.reshape(p, (0, 0, -1)), F.reshape(label, (0, -1)), F.reshape(valid, (0, -1))
        if not self._per_image:  # all pictures side by side
            p = F.reshape(F.swapaxes(p, 0, 1), (1, self._nclass, -1))
            label, valid = F.reshape(label, (1, -1)), F.reshape(valid, (1, -1))
        one_hot = F.transpose(F.one_hot(label * valid, self._nclass), axes=(0, 2, 1))
        target = F.broadcast_mul(one_hot, F.expand_dims(valid, 1))
        size = F.sum(target, axis=2)
        counts = F.ones_like(size) if self._every_class else size > 0
        classes = F.sum(counts, axis=1)
        loss = F.sum(self.score(F, p, target, F.expand_dims(valid, 1), size) * counts, axis=1)
        labelled = F.sum(valid, axis=1) > 0
        return F.sum(labelled * loss / (classes + (classes == 0))), F.sum(labelled)

    def score(self, F, p, target, valid, size):
        """The loss of each class in each picture.

        Args:
            F: ``mxnet.nd`` or ``mxnet.sym``.
            p: (N, C, M) probabilities.
            target: (N, C, M), 1 at the pixels of the class, 0 at others and ignored ones.
            valid: (N, 1, M), 0 where ignored, else 1.
            size: (N, C), pixels of each class.

        Returns:
            (N, C)
        """
        raise NotImplementedError


class Dice(RegionLoss):
    """Dice loss: Milletari, Navab & Ahmadi, 3DV 2016 (V-Net), section 3, for each class and then averaged.

        1 - 2 sum_i p_i g_i / (sum_i p_i^2 + sum_i g_i^2)

    over the valid pixels i, with p the probability of the class and g 1 where it is true. A class that is nowhere has
    loss 1 and no gradient.
    """

    def score(self, F, p, target, valid, size):
        both = F.sum(p * target, axis=2)
        either = F.sum(F.broadcast_mul(F.square(p), valid), axis=2) + size
        return 1 - 2 * both / (either + (either == 0))


class LovaszSoftmax(RegionLoss):
    """Lovász-softmax: Berman, Rannen Triki & Blaschko, CVPR 2018, equation 11 with the errors of equation 8.

    The Jaccard loss 1 - intersection / union of a class is a function of the set of pixels that are wrong; its Lovász
    extension makes it one of the errors |g_i - p_i|, which are sorted from large to small and weighed with what each
    pixel adds to the loss when the pixels come to be wrong in this order:

        of the class: 1 / U,    of another one: I / (U (U - 1)),

    with I and U what is left of the intersection and what the union has become. (Differences of the Jaccard losses, as
    in the authors' code, are the same but lose digits in float32.) A class that is nowhere has the largest error as its
    loss. Exact up to 2^24 pixels of one picture or, without ``per_image``, of one device's batch.
    """

    def score(self, F, p, target, valid, size):
        errors = F.abs(target - p)
        # ignored pixels come last, with no error
        errors = F.where(F.broadcast_mul(F.ones_like(errors), valid), errors, -F.ones_like(errors))
        errors, order = F.topk(errors, axis=2, k=0, ret_typ="both", is_ascend=False, dtype="int32")
        target = self._ordered(F, target, order)
        size = F.expand_dims(size, 2)
        left = F.broadcast_sub(size, F.cumsum(target, axis=2))
        union = F.broadcast_add(size, F.cumsum(1 - target, axis=2))
        first = union - 1 + (union == 1)  # the first wrong pixel of a class that is nowhere is all of its union
        share = F.where(target, 1 / union, left / (union * first))
        share = F.where(F.broadcast_lesser(size, F.ones_like(union)) * (union == 1), F.ones_like(union), share)
        return F.sum(F.relu(errors) * F.BlockGrad(share), axis=2)

    def _ordered(self, F, x, order):
        """x (N, C, M) with its last axis in the given order, (N, C, M) int32; without a gradient."""
        order = F.reshape(order, (-3, -1))
        row = F.cast(F.reshape(F.contrib.arange_like(order, axis=0), (-1, 1)), "int32")
        size = F.cast(F.reshape(length(F, x, 2), (1, 1)), "int32")
        index = F.broadcast_add(order, F.broadcast_mul(row, size))
        return F.reshape_like(F.take(F.reshape(x, (-1,)), index), x)
