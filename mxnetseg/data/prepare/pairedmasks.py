"""Convert images with masks beside them, ``NAME.jpg`` and ``NAME_mask.png``, to folder data."""
from __future__ import annotations

from pathlib import Path

from ..splits import split_of
from .pairs import MaskedImage, pairs_beside
from .roboflowmasks import pixel_tables
from .valuemasks import ValueMasks

_SUFFIXES = ("_mask", "_label", "_seg")


class PairedMasks(ValueMasks):
    """Convert masks of ids, of colours, or of 0 and 255, beside their images.

    The splits come from the names of folders: train, val (or valid), test.
    """

    needs = "NAME_mask.png (or NAME_label.png, NAME_seg.png) beside NAME.jpg, and classes.txt"

    @classmethod
    def recognises(cls, src: Path) -> str | None:
        if pixel_tables(src):
            return None
        pairs, _ = pairs_beside(src, _SUFFIXES)
        masks = [pair.mask for pair in pairs if pair.mask]
        if not masks or 2 * len(masks) < len(pairs):
            return None
        return f"{len(masks)} of {len(pairs)} images have a mask beside them, such as {masks[0].name}"

    def find_pairs(self) -> list[MaskedImage]:
        pairs, orphans = pairs_beside(self.source, _SUFFIXES)
        self.leave_out("masks without an image", (path.relative_to(self.source).as_posix() for path in orphans))
        return [pair._replace(split=split_of(pair.name.rpartition("/")[0])) for pair in pairs]
