"""Synthetic images to read and to train on: a data folder whose files are as large as those of photographs."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

CLASSES = 19


def make_images(root: Path, sizes: Sequence[tuple[int, int]], *, kind: str = "png") -> Path:
    """Write a data folder with one image for each of ``sizes``, all of them in both splits.

    The images are smooth fields of several scales with a little noise. A PNG file of 1024 x 2048 takes about 2.5 MB,
    as in Cityscapes.

    Args:
        root: the folder to create.
        sizes: (height, width) of each image.
        kind: ``'png'`` or ``'jpg'``; masks are PNG.

    Returns:
        ``root``.
    """
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for i, (height, width) in enumerate(sizes):
        def field(sigma, strength, height=height, width=width):
            x = rng.normal(size=(height // 4, width // 4, 3)).astype(np.float32)
            x = cv2.GaussianBlur(x, (0, 0), sigma)
            return cv2.resize(x, (width, height), interpolation=cv2.INTER_CUBIC) / x.std() * strength

        image = 110 + field(40, 40) + field(6, 18) + field(1, 6) + rng.normal(size=(height, width, 1)) \
            + 0.7 * rng.normal(size=(height, width, 3))
        scores = cv2.resize(rng.normal(size=(24, 48, CLASSES)).astype(np.float32), (width // 4, height // 4),
                            interpolation=cv2.INTER_CUBIC)
        mask = cv2.resize(scores.argmax(-1).astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(root / "images" / f"{i:03d}.{kind}"), image.clip(0, 255).astype(np.uint8),
                    [cv2.IMWRITE_JPEG_QUALITY, 95])
        Image.fromarray(mask).save(root / "masks" / f"{i:03d}.png")  # with Pillow, as in Cityscapes
    for split in ("train", "val"):
        (root / f"{split}.txt").write_text("\n".join(f"{i:03d}" for i in range(len(sizes))) + "\n")
    (root / "classes.txt").write_text("\n".join(f"class {i}" for i in range(CLASSES)) + "\n")
    return root
