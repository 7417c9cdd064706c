"""Results of preparations: masks that are expected and masks that were written; runs over damaged input."""
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 24, 32  # height and width of the miniatures' images


def expected_mask(*boxes, uncovered=0):
    """Return a mask of :data:`SIZE` with boxes (class id, left, top, right, bottom), later ones on top."""
    mask = np.full(SIZE, uncovered, np.uint8)
    for value, left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = value
    return mask


def read_mask(path):
    """Return the values of a mask file, (H, W)."""
    with Image.open(path) as image:
        return np.array(image)


def mask_names(target):
    """Return the paths of all masks below ``target/masks``, sorted."""
    folder = Path(target) / "masks"
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


def run_damaged(run, seeds, error, *, least):
    """Call ``run(seed)`` for each seed; no exception but ``error`` may leave it, and both outcomes must occur.

    Args:
        run: reads input that is damaged by a seed.
        seeds: number of seeds.
        error: exception class that the readers raise.
        least: each outcome, accepted and refused, must occur more often.
    """
    outcomes = {True: 0, False: 0}
    for seed in range(seeds):
        try:
            run(seed)
            outcomes[True] += 1
        except error as refusal:
            str(refusal).encode()
            outcomes[False] += 1
    assert min(outcomes.values()) > least, outcomes
