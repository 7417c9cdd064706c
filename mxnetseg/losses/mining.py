"""Online hard example mining: only pixels that are predicted badly take part in a loss."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict

from ..errors import ConfigError
from ..nn.resize import length

# How published code departs from the rule in Mining's docstring; the names are those of `loss.ohem.form`.
FORMS: Dict[str, Dict[str, Any]] = {
    "flattenet": {},
    "hrnet": {"next_larger": True, "mean_over": "pixels"},
    "mmseg": {"next_larger": True, "mean_over": "all", "per_image": True},
    "ccnet": {"inclusive": True, "reduction": 8},
}


@dataclass(frozen=True)
class Mining:
    """Which pixels count (Shrivastava et al., CVPR 2016), and what their loss is divided by.

    With p the probability of the true class, a valid pixel takes part if

        p < max(thresh, q),    q the ``min_kept``-th smallest p:

    all pixels less sure than ``thresh``; where these are fewer than ``min_kept``, all less sure than q. If there are
    fewer valid pixels than ``min_kept``, q is the largest p. Mining looks at the batch of one device.
    Nobody has written this rule down twice alike; :data:`FORMS` are the readings of

    * FlatteNet: as above;
    * HRNet (and OVeNet): q is the next larger one, and the mean is over the pixels kept whatever their class weights;
    * mmsegmentation (and SFNet's port to it): q is the next larger one, ``min_kept`` is of each image, and
      the mean is over *all* pixels, those left out and the ignored ones included;
    * CCNet (and ACFNet's port): p <= max(thresh, q); q is looked for on maps of one eighth of the height and
      width, with ``min_kept`` // 64, and where these have no more valid pixels than that, every pixel counts.

    Args:
        thresh: probability, in [0, 1].
        min_kept: pixels, at least 1.
        per_image: ``min_kept`` is said of an image; else of the device's batch.
        next_larger: q is the next larger p.
        inclusive: p = max(thresh, q) takes part, too.
        mean_over: what the sum is divided by: ``'weights'``, the class weights of the pixels kept; ``'pixels'``, their
            number; ``'all'``, the number of all pixels.
        reduction: q is looked for on maps reduced by this factor along both sides (see :meth:`_reduced`).
    """

    thresh: float = 0.7
    min_kept: int = 100000
    per_image: bool = False
    next_larger: bool = False
    inclusive: bool = False
    mean_over: str = "weights"
    reduction: int = 1

    @classmethod
    def of(cls, form: str, *, thresh: float, min_kept: int) -> "Mining":
        """The reading called ``form``, a key of :data:`FORMS`.

        Raises:
            ConfigError: no such form.
        """
        if form not in FORMS:
            raise ConfigError("no such form of mining", where="loss.ohem.form", received=form,
                              fix=f"one of {', '.join(FORMS)}")
        return cls(thresh=thresh, min_kept=min_kept, **FORMS[form])

    def share(self, devices: int) -> "Mining":
        """What one of several devices mines when ``min_kept`` is said of the batch of all of them."""
        return self if self.per_image else replace(self, min_kept=max(self.min_kept // devices, 1))

    def keep(self, F, log_p, label, valid):
        """1 where a pixel takes part, else 0.

        Args:
            F: ``mxnet.nd`` or ``mxnet.sym``.
            log_p: (N, H, W, C) log-probabilities.
            label: (N, H, W), 0 where ignored.
            valid: (N, H, W), 0 where ignored, else 1.

        Returns:
            (N, H, W)
        """
        log_p = F.BlockGrad(log_p)
        p = F.exp(F.pick(log_p, label, axis=-1))
        threshold = self._threshold(F, *(self._reduced(F, log_p, label, valid) if self.reduction > 1 else (p, valid)))
        hard = F.broadcast_lesser_equal(p, threshold) if self.inclusive else F.broadcast_lesser(p, threshold)
        return hard * valid

    def _threshold(self, F, p, valid):
        """max(thresh, q): p and valid (N, h, w) -> (1,)."""
        n = F.sum(valid)
        wanted = self.min_kept // self.reduction ** 2 * F.ones_like(n)
        if self.per_image:
            wanted = wanted * length(F, valid, 0)
        # ignored pixels sort behind all others; probabilities are at most 1. The axis is said because
        # MXNet 1.9.1 cannot build the gradient of sort() with the default one, even where it is zero.
        ascending = F.sort(F.reshape(F.where(valid, p, 2 * F.ones_like(p)), (-1,)), axis=0)
        place = F.broadcast_minimum(wanted, n - 1) if self.next_larger else F.broadcast_minimum(wanted, n) - 1
        threshold = F.broadcast_maximum(F.take(ascending, F.relu(place)), self.thresh * F.ones_like(n))
        if self.reduction == 1:
            return threshold
        # none asked for: the threshold alone decides; no more there than asked for: everything is kept
        threshold = F.where(wanted > 0, threshold, self.thresh * F.ones_like(n))
        return F.where(F.broadcast_greater_equal(wanted, n), 2 * F.ones_like(n), threshold)

    def _reduced(self, F, log_p, label, valid):
        """Probabilities of the true class on a coarse grid: (N, h, w) and (N, h, w), 1 where there is a valid one.

        The rule is that of SciPy's ``zoom``: n samples become m = n / reduction, rounded, half to even; the first
        and the last of both grids coincide, so sample i of m lies at i (n - 1) / (m - 1). Labels are taken from the
        nearest sample (half upwards), the probabilities of that class are interpolated bilinearly. Where rounding goes
        down, the map here has a row or column too many, which is marked invalid.
        """
        ends, there = [], []
        for axis in (1, 2):
            low, part, nearest, exists = self._places(F, label, axis)
            ends.append((low, part, nearest))
            there.append(exists)
        (top, down, row), (left, right, column) = ends
        coarse = F.take(F.take(label, row, axis=1), column, axis=2)
        exists = F.broadcast_mul(F.reshape(there[0], (1, -1, 1)), F.reshape(there[1], (1, 1, -1)))
        valid = F.broadcast_mul(F.take(F.take(valid, row, axis=1), column, axis=2), exists)
        down, right = F.reshape(down, (1, -1, 1)), F.reshape(right, (1, 1, -1))
        p = 0
        for rows, above in ((top, 1 - down), (top + 1, down)):
            line = F.take(log_p, rows, axis=1)  # a place behind the last one is clipped, and has no part
            for columns, beside in ((left, 1 - right), (left + 1, right)):
                corner = F.exp(F.pick(F.take(line, columns, axis=2), coarse, axis=-1))
                p = p + F.broadcast_mul(F.broadcast_mul(corner, above), beside)
        return p, valid

    def _places(self, F, x, axis):
        """Of the samples of the coarse grid along one axis: the fine sample below, the part of the next one,
        the nearest, and whether the coarse one exists; each (n / reduction rounded up,)."""
        index = F.contrib.arange_like(x, axis=axis)
        n = length(F, x, axis)
        steps = F.rint(n / self.reduction)  # half goes down there; to even means up where that is odd
        odd = steps - 2 * F.floor(steps / 2)
        steps = steps + odd * (n / self.reduction - steps == 0.5) - 1
        coarse = F.slice(index, begin=(None,), end=(None,), step=(self.reduction,)) / self.reduction
        # one division, last: the products before it are exact in float32
        place = F.broadcast_div(F.broadcast_mul(coarse, n - 1), F.broadcast_maximum(steps, F.ones_like(steps)))
        exists = F.broadcast_lesser_equal(coarse, steps)
        place = F.broadcast_minimum(place, n - 1)
        low = F.floor(place)
        return low, place - low, F.floor(place + 0.5), exists
