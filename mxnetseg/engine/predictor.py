"""Three lines from a picture to its classes::

    from mxnetseg import Predictor
    prediction = Predictor("weights/fcn/fcn_resnet18_sample_20260101_120000_best.params")("street.png")
    prediction.save("out")
"""
from __future__ import annotations

from pathlib import Path
from typing import Dict, Optional, Sequence, Tuple, Union

import mxnet as mx
import numpy as np

from ..config.schema import Config
from ..data.base import read_image
from ..errors import UsageError
from ..viz.overlay import overlay, with_legend
from ..viz.palette import colorize, save_color_png, save_rgb_png
from .checkpoint import Checkpoint, restore_network
from .inference import Protocol, Segmenter
from .precision import choose_precision, fused


class Prediction:
    """What a network saw in one picture.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        class_map: uint8 (H, W), indices into ``classes``.
        classes: names.
        palette: uint8 (nclass, 3), RGB.
        name: file name without ending, ``'image'`` for an array.
    """

    def __init__(self, image: np.ndarray, class_map: np.ndarray, classes: Tuple[str, ...], palette: np.ndarray,
                 name: str = "image"):
        self.image, self.class_map, self.classes, self.palette, self.name = image, class_map, classes, palette, name

    @property
    def color(self) -> np.ndarray:
        """Each pixel in its class's colour: uint8 (H, W, 3)."""
        return colorize(self.class_map, self.palette)

    @property
    def overlay(self) -> np.ndarray:
        """The picture under its colours, with a legend of the classes seen: uint8 (H', W, 3)."""
        tinted = overlay(self.image, self.class_map, self.palette, classes=self.classes)
        return with_legend(tinted, self.classes, self.palette, present=self.class_map, of_overlay=True)

    def shares(self) -> Dict[str, float]:
        """Share of the pixels of each class seen, largest first."""
        count = np.bincount(self.class_map.ravel(), minlength=len(self.classes)) / self.class_map.size
        return {self.classes[i]: float(count[i]) for i in np.argsort(-count, kind="stable") if count[i]}

    def save(self, folder: Union[str, Path]) -> Tuple[Path, Path]:
        """Write ``NAME_classes.png`` (palette picture, its indices the classes) and ``NAME_overlay.png``."""
        folder = Path(folder)
        classes, picture = folder / f"{self.name}_classes.png", folder / f"{self.name}_overlay.png"
        save_color_png(self.class_map, self.palette, classes)
        save_rgb_png(self.overlay, picture)
        return classes, picture


class Predictor:
    """A checkpoint, ready for pictures. ``predictor(image) -> Prediction``.

    Args:
        checkpoint: a ``.params`` file with its sidecar.
        ctx: context; None: ``mx.cpu()``.
        ms: average over several scales and the mirrored picture.
        precision: ``'float32'``, ``'bfloat16'``, ``'int8'``, ``'float16'``, ``'plain'``, or ``'auto'``: see
            :mod:`mxnetseg.engine.precision`.
        calibration: for int8: some pictures of the kind to come, files or uint8 (H, W, 3) RGB arrays.

    Attributes:
        precision: what it computes in.

    Raises:
        CheckpointError: the checkpoint is missing or damaged.
        ConfigError: the device cannot compute in ``precision``.
        UsageError: int8 without pictures to calibrate on.
    """

    def __init__(self, checkpoint: Union[str, Path, Checkpoint], *, ctx: Optional[mx.Context] = None,
                 ms: bool = False, precision: str = "float32",
                 calibration: Sequence[Union[str, Path, np.ndarray]] = ()):
        if not isinstance(checkpoint, Checkpoint):
            checkpoint = Checkpoint(checkpoint)
        contexts: Sequence[mx.Context] = [ctx or mx.cpu()]
        net, self.sidecar = restore_network(checkpoint, contexts)
        self.classes = tuple(self.sidecar["data"]["classes"])
        self.palette = np.array(self.sidecar["data"]["palette"], np.uint8)
        protocol = Protocol.of(Config.from_dict(self.sidecar["config"], where=checkpoint.sidecar_path), ms=ms)
        self.precision, _ = choose_precision(precision, contexts)
        pictures = [read_image(p) if not isinstance(p, np.ndarray) else p for p in calibration]
        self._segmenter = Segmenter(fused(net, contexts, self.precision, calibration=pictures), contexts, protocol)

    def __call__(self, image: Union[str, Path, np.ndarray]) -> Prediction:
        """Segment a file, or a uint8 (H, W, 3) RGB array.

        Raises:
            DataError, DataNotFoundError: the file is missing or no picture.
            UsageError: an array of another type or shape.
        """
        name = "image"
        if not isinstance(image, np.ndarray):
            name, image = Path(image).stem, read_image(image)
        elif image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UsageError("a picture is a uint8 array (H, W, 3), RGB", received=f"{image.dtype} {image.shape}",
                             fix="convert it: gray[..., None].repeat(3, 2), (float_image * 255).astype('uint8')")
        return Prediction(image, self._segmenter(image).asnumpy(), self.classes, self.palette, name)
