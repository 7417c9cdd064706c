"""Online hard example mining: a loss over the badly predicted pixels only."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..errors import ConfigError
from ..nn.resize import length

# Published code -> how it differs from the rule in Mining's docstring. The keys are the values of `loss.ohem.form`.
MINING_RULES: dict[str, dict[str, Any]] = {
    "flattenet": {},
    "hrnet": {"next_larger": True, "mean_over": "pixels"},
    "mmseg": {"next_larger": True, "mean_over": "all", "per_image": True},
    "ccnet": {"inclusive": True, "reduction": 8},
}


@dataclass(frozen=True)
class Mining:
    """Rule that selects the hard pixels (Shrivastava et al., CVPR 2016), and the divisor of their loss.

    With p the predicted probability of the true class, a valid pixel is kept if

        p < max(thresh, q),    q the ``min_kept``-th smallest p.

    These are all pixels with p below ``thresh``, or, if they are fewer than ``min_kept``, all with p below q. With
    fewer than ``min_kept`` valid pixels, q is the largest p. The rule is applied to the batch of one device.

    Published implementations of this rule differ; :data:`MINING_RULES` holds those of

    * FlatteNet: as above;
    * HRNet (and OVeNet): q is the next larger p, and the mean is over the kept pixels, regardless of class weights;
    * mmsegmentation (and SFNet's port to it): q is the next larger p, ``min_kept`` is per image, and the mean is over
      *all* pixels, discarded and ignored ones included;
    * CCNet (and ACFNet's port): p <= max(thresh, q). q is determined on maps of one eighth of the height and width,
      with ``min_kept`` // 64; if these have no more valid pixels than that, every pixel is kept.

    Args:
        thresh: probability, in [0, 1].
        min_kept: number of pixels, at least 1.
        per_image: ``min_kept`` is per image; False: per batch of a device.
        next_larger: q is the next larger p.
        inclusive: also keep the pixels with p = max(thresh, q).
        mean_over: the divisor: ``'weights'``, the sum of the kept pixels' class weights; ``'pixels'``, their number;
            ``'all'``, the number of all pixels.
        reduction: factor by which the maps for q are smaller along both sides, see :meth:`_reduced`.
    """

    thresh: float = 0.7
    min_kept: int = 100000
    per_image: bool = False
    next_larger: bool = False
    inclusive: bool = False
    mean_over: str = "weights"
    reduction: int = 1

    @classmethod
    def of(cls, rule: str, *, thresh: float, min_kept: int) -> Mining:
        """Return mining as in published code.

        Args:
            rule: a key of :data:`MINING_RULES`.
            thresh, min_kept: see the class.

        Raises:
            ConfigError: unknown rule.
        """
        if rule not in MINING_RULES:
            raise ConfigError("unknown mining rule", where="loss.ohem.form", received=rule,
                              fix=f"one of {', '.join(MINING_RULES)}")
        return cls(thresh=thresh, min_kept=min_kept, **MINING_RULES[rule])

    def with_quota(self, splits: int) -> Mining:
        """Return the mining of one of ``splits`` equal parts of the batch, with its quota of ``min_kept``."""
        return self if self.per_image else replace(self, min_kept=max(self.min_kept // splits, 1))

    def keep(self, F, log_p, label, valid):
        """Return which pixels are kept: 1 for a kept pixel, else 0.

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
        """Return max(thresh, q): p and valid (N, h, w) -> (1,)."""
        n = F.sum(valid)
        wanted = self.min_kept // self.reduction ** 2 * F.ones_like(n)
        if self.per_image:
            wanted = wanted * length(F, valid, 0)

        # Probabilities are at most 1, so ignored pixels are sorted last. The axis is explicit because MXNet 1.9.1
        # cannot build the gradient of sort() with the default axis, even where the gradient is zero.
        ascending = F.sort(F.reshape(F.where(valid, p, 2 * F.ones_like(p)), (-1,)), axis=0)
        place = F.broadcast_minimum(wanted, n - 1) if self.next_larger else F.broadcast_minimum(wanted, n) - 1
        threshold = F.broadcast_maximum(F.take(ascending, F.relu(place)), self.thresh * F.ones_like(n))
        if self.reduction == 1:
            return threshold

        # with a quota of 0 only thresh decides; with a quota of at least the valid pixels everything is kept
        threshold = F.where(wanted > 0, threshold, self.thresh * F.ones_like(n))
        return F.where(F.broadcast_greater_equal(wanted, n), 2 * F.ones_like(n), threshold)

    def _reduced(self, F, log_p, label, valid):
        """Return the true class's probabilities on a coarse grid, and which of them are valid, both (N, h, w).

        The coarse grid is the one of SciPy's ``zoom``: n samples become m = n / reduction, rounded half to even. The
        first and last samples of both grids coincide, so sample i of m lies at i (n - 1) / (m - 1). Labels come from
        the nearest sample (half upwards); the probabilities of that class are interpolated bilinearly. Here n is
        divided rounding up: where SciPy rounds down, the extra row or column is marked invalid.
        """
        (top, below, row, row_exists), (first, beside, column, column_exists) = (
            self._coarse_samples(F, label, axis) for axis in (1, 2))
        coarse_label = F.take(F.take(label, row, axis=1), column, axis=2)  # (N, h, w)
        exists = F.broadcast_mul(F.reshape(row_exists, (1, -1, 1)), F.reshape(column_exists, (1, 1, -1)))
        valid = F.broadcast_mul(F.take(F.take(valid, row, axis=1), column, axis=2), exists)

        below, beside = F.reshape(below, (1, -1, 1)), F.reshape(beside, (1, 1, -1))
        p = 0
        for rows, row_weight in ((top, 1 - below), (top + 1, below)):
            line = F.take(log_p, rows, axis=1)  # an index beyond the last one is clipped and has weight 0
            for columns, column_weight in ((first, 1 - beside), (first + 1, beside)):
                corner = F.exp(F.pick(F.take(line, columns, axis=2), coarse_label, axis=-1))
                p = p + F.broadcast_mul(F.broadcast_mul(corner, row_weight), column_weight)
        return p, valid

    def _coarse_samples(self, F, x, axis):
        """Return where the samples of the coarse grid lie along one axis of the fine grid.

        Returns:
            (index of the fine sample before, weight of the fine sample after, index of the nearest fine sample, 1 if
            the coarse sample exists in SciPy's grid else 0); each of the shape (n / reduction rounded up,).
        """
        index = F.contrib.arange_like(x, axis=axis)
        n = length(F, x, axis)
        steps = F.rint(n / self.reduction)  # rint() rounds half down, so an odd result of a half is one too small
        odd = steps - 2 * F.floor(steps / 2)
        steps = steps + odd * (n / self.reduction - steps == 0.5) - 1

        coarse = F.slice(index, begin=(None,), end=(None,), step=(self.reduction,)) / self.reduction
        # the only division comes last, because the products before it are exact in float32
        place = F.broadcast_div(F.broadcast_mul(coarse, n - 1), F.broadcast_maximum(steps, F.ones_like(steps)))
        exists = F.broadcast_lesser_equal(coarse, steps)
        place = F.broadcast_minimum(place, n - 1)
        low = F.floor(place)
        return low, place - low, F.floor(place + 0.5), exists
