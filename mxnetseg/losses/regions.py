"""Losses on whole regions: dice and Lovász-softmax, which are close to the metrics of segmentation.

They are not sums over pixels: the score of a class over several images is not the mean of its scores on each image.
With ``per_image`` each image has its own score, and the mean over the global batch does not depend on how the batch is
split across devices. Otherwise each device scores its batch as one image.
"""
from __future__ import annotations

from mxnet.gluon import HybridBlock

from ..nn.resize import length


class RegionLoss(HybridBlock):
    """Base class of the region losses, with probabilities and labels by class.

    logits: (N, C, H, W), label: (N, H, W), any type, ``ignore`` where unlabelled -> two (1,) tensors: the sum over the
    images of the mean over their classes, and the number of images with a labelled pixel. A batch without labelled
    pixels gives (0, 0). Logits of any type are converted to float32 first.

    Args:
        nclass: C, the number of classes.
        per_image: one score per image; False: one score for the device's batch.
        classes: the classes of an image that the mean is taken over: ``'present'``, the classes in its label, or
            ``'all'``.
        ignore: label of the ignored pixels.
    """

    def __init__(self, nclass: int, *, per_image: bool = True, classes: str = "present", ignore: int = 255):
        super().__init__()
        self._nclass, self._per_image, self._ignore = nclass, per_image, ignore
        self._every_class = {"present": False, "all": True}[classes]

    def hybrid_forward(self, F, logits, label):
        p = F.softmax(F.cast(logits, "float32"), axis=1)
        label = F.cast(label, "float32")
        valid = label != self._ignore
        # (N, C, M) and (N, M), with M = H W
        p, label, valid = F.reshape(p, (0, 0, -1)), F.reshape(label, (0, -1)), F.reshape(valid, (0, -1))
        if not self._per_image:  # one image of all pixels: N becomes 1, M becomes N M
            p = F.reshape(F.swapaxes(p, 0, 1), (1, self._nclass, -1))
            label, valid = F.reshape(label, (1, -1)), F.reshape(valid, (1, -1))

        one_hot = F.transpose(F.one_hot(label * valid, self._nclass), axes=(0, 2, 1))
        target = F.broadcast_mul(one_hot, F.expand_dims(valid, 1))
        size = F.sum(target, axis=2)  # (N, C)
        counts = F.ones_like(size) if self._every_class else size > 0
        classes = F.sum(counts, axis=1)  # (N,)

        loss = F.sum(self.score(F, p, target, F.expand_dims(valid, 1), size) * counts, axis=1)
        labelled = F.sum(valid, axis=1) > 0
        return F.sum(labelled * loss / (classes + (classes == 0))), F.sum(labelled)

    def score(self, F, p, target, valid, size):
        """Return the loss of each class in each image.

        Args:
            F: ``mxnet.nd`` or ``mxnet.sym``.
            p: (N, C, M) probabilities.
            target: (N, C, M), 1 at the pixels of the class, 0 at other and ignored pixels.
            valid: (N, 1, M), 0 where ignored, else 1.
            size: (N, C), number of pixels of each class.

        Returns:
            (N, C)
        """
        raise NotImplementedError


class Dice(RegionLoss):
    """Dice loss, averaged over the classes: Milletari, Navab & Ahmadi, 3DV 2016 (V-Net), section 3.

        1 - 2 sum_i p_i g_i / (sum_i p_i^2 + sum_i g_i^2)

    over the valid pixels i, with p the probability of the class, and g 1 at its pixels and 0 elsewhere. A class
    without pixels has loss 1 and no gradient.
    """

    def score(self, F, p, target, valid, size):
        both = F.sum(p * target, axis=2)
        either = F.sum(F.broadcast_mul(F.square(p), valid), axis=2) + size
        return 1 - 2 * both / (either + (either == 0))


class LovaszSoftmax(RegionLoss):
    """Lovász-softmax: Berman, Rannen Triki & Blaschko, CVPR 2018, equation 11 with the errors of equation 8.

    The Jaccard loss of a class, 1 - intersection / union, is a function of the set of wrong pixels. Its Lovász
    extension is a function of the errors |g_i - p_i|: sorted in descending order, each error is weighted by the
    increase of the Jaccard loss when its pixel joins the wrong pixels:

        1 / U for a pixel of the class,    I / (U (U - 1)) for any other pixel,

    with I and U the intersection and the union after this pixel joined. (The authors' code takes differences of Jaccard
    losses, which are equal but lose digits in float32.) The loss of a class without pixels is its largest error. The
    result is exact up to 2^24 pixels per image or, without ``per_image``, per batch of a device.
    """

    def score(self, F, p, target, valid, size):
        errors = F.abs(target - p)
        # ignored pixels are sorted last, and relu() below removes their error
        errors = F.where(F.broadcast_mul(F.ones_like(errors), valid), errors, -F.ones_like(errors))
        errors, order = F.topk(errors, axis=2, k=0, ret_typ="both", is_ascend=False, dtype="int32")
        target = self._ordered(F, target, order)

        size = F.expand_dims(size, 2)
        intersection = F.broadcast_sub(size, F.cumsum(target, axis=2))
        union = F.broadcast_add(size, F.cumsum(1 - target, axis=2))
        union_before = union - 1 + (union == 1)  # not 0: a class without pixels has union 1 at its first wrong pixel
        increase = F.where(target, 1 / union, intersection / (union * union_before))
        is_first_of_absent_class = F.broadcast_lesser(size, F.ones_like(union)) * (union == 1)
        increase = F.where(is_first_of_absent_class, F.ones_like(union), increase)
        return F.sum(F.relu(errors) * F.BlockGrad(increase), axis=2)

    def _ordered(self, F, x, order):
        """Return x (N, C, M) with its last axis in the given order, (N, C, M) int32; the result has no gradient."""
        order = F.reshape(order, (-3, -1))
        row = F.cast(F.reshape(F.contrib.arange_like(order, axis=0), (-1, 1)), "int32")
        size = F.cast(F.reshape(length(F, x, 2), (1, 1)), "int32")
        index = F.broadcast_add(order, F.broadcast_mul(row, size))
        return F.reshape_like(F.take(F.reshape(x, (-1,)), index), x)
