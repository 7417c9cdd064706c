"""Prediction of an image's classes, in three lines.

Example::

from mxnetseg import Predictor
prediction = Predictor("weights/fcn/fcn_resnet18_sample_20260101_120000_best.params")("street.png")
prediction.save("out")
"""
from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, Union

import numpy as np
from PIL import Image

from ..data.decoding import IGNORE, PLAIN, Decoding, read_image
from ..errors import UnknownNameError, UsageError
from ..viz import notebook
from ..viz.names import draw_names
from ..viz.overlay import overlay, with_legend
from ..viz.palette import colorize, save_color_png, save_rgb_png
from ..viz.sheet import scale_down
from .inference import Segmenter
from .network import OpenNetwork, open_network
from .prediction_settings import choose_tiling, prediction_protocol

_COUNTED = 1 << 20  # pixels counted at once, because NumPy converts them to 8 bytes each
Images = Sequence[Union[str, Path, np.ndarray]]
_RGB_MODES = ("RGB", "L", "P", "1")  # modes of Pillow that convert to 8-bit RGB without loss


class Prediction:
    """Prediction of a network for one image.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        class_map: uint8 (H, W), indices into ``classes``.
        classes: names of the classes.
        palette: uint8 (nclass, 3), RGB.
        name: file name without ending, ``'image'`` for an array.

    Example:
        >>> import numpy as np
        >>> from mxnetseg import Prediction
        >>> image = np.zeros((2, 2, 3), np.uint8)
        >>> class_map = np.array([[0, 0], [0, 1]], np.uint8)
        >>> palette = np.array([[128, 64, 128], [0, 0, 142]], np.uint8)
        >>> prediction = Prediction(image, class_map, ("road", "car"), palette, name="street")
        >>> prediction.shares()
        {'road': 0.75, 'car': 0.25}
        >>> prediction.color[1, 1].tolist()
        [0, 0, 142]
    """

    def __init__(self, image: np.ndarray, class_map: np.ndarray, classes: tuple[str, ...], palette: np.ndarray,
                 name: str = "image"):
        self.image, self.class_map, self.classes, self.palette, self.name = image, class_map, classes, palette, name

    @property
    def color(self) -> np.ndarray:
        """The image with each pixel in its class's colour: uint8 (H, W, 3)."""
        return colorize(self.class_map, self.palette)

    @property
    def overlay(self) -> np.ndarray:
        """The image tinted with the classes' colours, with a legend of the classes present: uint8 (H', W, 3)."""
        return self.draw()

    def draw(self, *, names: bool = False, alpha: float = 0.5, hidden: Collection[str] = ()) -> np.ndarray:
        """Return the image tinted with the classes' colours, with a legend of the classes present: uint8 (H', W, 3).

        Args:
            names: write its class on each connected region that has room for the name.
            alpha: strength of the tint, from 0 to 1.
            hidden: names of classes that are left out: their pixels keep the colours of the image.

        Raises:
            UnknownNameError: there is no class of a name in ``hidden``.
        """
        for name in hidden:
            if name not in self.classes:
                raise UnknownNameError("class", name, self.classes, where="hidden")
        ids = [i for i, name in enumerate(self.classes) if name in hidden]
        shown = np.where(np.isin(self.class_map, ids), np.uint8(IGNORE), self.class_map)
        tinted = overlay(self.image, shown, self.palette, classes=self.classes, alpha=alpha)
        if names:
            tinted = draw_names(tinted, shown, self.classes)
        return with_legend(tinted, self.classes, self.palette, present=shown, of_overlay=True)

    def shares(self) -> dict[str, float]:
        """Return the fraction of the pixels of each class that is present, largest first."""
        return shares_of(class_fractions(self.class_map, len(self.classes)), self.classes)

    def save(self, folder: str | Path, *, names: bool = False) -> tuple[Path, Path]:
        """Write ``NAME_classes.png`` (a palette image whose indices are the classes) and ``NAME_overlay.png``.

        Args:
            folder: where to write; it is created if it does not exist.
            names: write class names on the overlay, see :meth:`draw`.

        Returns:
            both paths.
        """
        folder = Path(folder)
        classes, tinted = folder / f"{self.name}_classes.png", folder / f"{self.name}_overlay.png"
        save_color_png(self.class_map, self.palette, classes)
        save_rgb_png(self.draw(names=names), tinted)
        return classes, tinted

    def show(self) -> None:
        """Display it: in a notebook as it draws itself, on a desktop in the image viewer, elsewhere as a file."""
        notebook.show(self, self.name, self.draw)

    def __repr__(self) -> str:
        height, width = self.class_map.shape
        return f"Prediction({self.name!r}, {height} x {width}, {notebook.describe_shares(self.shares())})"

    def _repr_html_(self) -> str:
        small, ids = scale_down(self.image), scale_down(self.class_map)
        panels = [notebook.Panel("image", f"Image {self.name}", small),
                  notebook.Panel("prediction", f"Classes over {self.name}: {notebook.describe_shares(self.shares())}",
                                 overlay(small, ids, self.palette, classes=self.classes))]
        return notebook.make_html(repr(self), panels, self.shares(),
                                  notebook.colours_of(self.classes, self.palette))


class Predictor:
    """A checkpoint that segments images: ``predictor(image) -> Prediction``.

    Args:
        checkpoint: a ``.params`` file with its sidecar; or what `mxnetseg export` wrote: an ``.onnx`` file, an OpenVINO
            ``.xml`` file, or an export as ``hub`` or ``mxnet``. The latter need no MXNet. Or a name:
            ``'gluoncv:fcn_resnet50_ade'``, ``'hub:USER/NAME'``, or ``'included'`` for the network that comes with the
            package (default). Or the result of :func:`~mxnetseg.engine.network.open_network`, which has its own backend
            and devices.
        backend: ``'mxnet'``, ``'torch'``, ``'onnxruntime'``, ``'openvino'``, or ``'auto'``: see
            :func:`mxnetseg.backends.choice.choose_backend`.
        ctx: device to run on: a context of MXNet, or the name of a device as ``--ctx`` takes it; None: the CPU.
        ms: average over several scales and the flipped image.
        precision: ``'float32'``, ``'bfloat16'``, ``'int8'``, ``'float16'``, ``'plain'``, or ``'auto'``: see
            :func:`mxnetseg.engine.precision.choose_precision`. None: float32, or what an exported file contains. Other
            backends than MXNet compute in some of them.
        calibration: for int8 in MXNet: some images like those to be predicted, files or uint8 (H, W, 3) RGB arrays; or
            a function that returns them for a :class:`~mxnetseg.data.decoding.Decoding`.
        decoding: how files that are not 8-bit grey or RGB are converted; None: as in training.
        tile: side in pixels of the tiles that larger images are cut into; ``'auto'``: tiles of 1024 for images that
            would take more than a quarter of the device's memory, by an estimate; None: no tiles.
        overlap: pixels that neighbouring tiles share; None: a quarter of the side.
        base: long side in pixels that images are scaled to; 0: their own; None: as the configuration says.
        batch: neighbouring images of one size that ``segmenter.stream`` computes at once.
        overrides: configuration keys that differ from the training's, with their values: ``{'data.bands': (4, 3, 2)}``.

    Attributes:
        name: the network's file name without its ending.
        precision: the precision it computes in.
        backend: name and reason of the backend that computes.
        decoding: how files are converted to 8-bit RGB.
        segmenter: computes class maps of arrays.

    Raises:
        CheckpointError: the checkpoint is missing or damaged.
        ConfigError: the device cannot compute in ``precision``.
        EnvironmentProblem: the backend is not installed.
        UsageError: int8 without images to calibrate on; a tile or an overlap that is not possible.

    Example:
        >>> from mxnetseg import Predictor
        >>> predictor = Predictor("fcn.params")  # in weights/fcn/ after `mxnetseg train --model fcn`
        >>> prediction = predictor("street.png")
        >>> prediction.class_map.shape
        (192, 288)
        >>> [path.name for path in prediction.save("out")]
        ['street_classes.png', 'street_overlay.png']
    """

    def __init__(self, checkpoint: Any = "included", *, backend: str = "auto", ctx: Any = None, ms: bool = False,
                 precision: str | None = None, calibration: Images | Callable[[Decoding], Images] = (),
                 decoding: Decoding | None = None, tile: int | str | None = "auto", overlap: int | None = None,
                 base: int | None = None, batch: int = 1, overrides: Mapping[str, Any] | None = None):
        network = checkpoint if isinstance(checkpoint, OpenNetwork) else \
            open_network(checkpoint, backend=backend, ctx=["cpu" if ctx is None else ctx])
        self.sidecar, self.backend = network.sidecar, network.choice
        self.classes = tuple(self.sidecar["data"]["classes"])
        self.palette = np.array(self.sidecar["data"]["palette"], np.uint8)
        config = network.config().replace(overrides or {})
        protocol = prediction_protocol(config, ms=ms, base=base, tile=tile, batch=batch)
        self.decoding = decoding or Decoding.of(config.data)
        self.precision, _ = network.choose_precision(precision)
        given = calibration(self.decoding) if callable(calibration) else calibration
        images = [as_rgb(image, self.decoding) for image in given]
        runtime = network.load(self.precision, images)
        tiling = choose_tiling(tile, overlap, protocol, runtime, len(self.classes), config.data.crop_size)
        self.segmenter = Segmenter(runtime, protocol, tiling=tiling, batch=batch)
        self.name = network.stem

    def __call__(self, image: Any) -> Any:
        """Segment an image, or a list of images.

        Args:
            image: a file; a uint8 (H, W, 3) RGB array of NumPy or MXNet; a PIL image; or a list or tuple of these.

        Returns:
            a :class:`Prediction`; for a list, a list of them.

        Raises:
            DataError, DataNotFoundError: a file is missing or holds no image.
            UsageError: anything else, or an array of another type or shape.
        """
        if isinstance(image, (list, tuple)):
            return [self(one) for one in image]
        name = Path(image).stem if isinstance(image, (str, Path)) else "image"
        image = as_rgb(image, self.decoding)
        return Prediction(image, self.segmenter(image), self.classes, self.palette, name)

    def __repr__(self) -> str:
        return (f"Predictor({self.name!r}, {len(self.classes)} classes, {self.precision} in {self.backend.backend}, "
                f"{self.segmenter.protocol})")


def class_fractions(class_map: np.ndarray, nclass: int) -> np.ndarray:
    """Return the fraction of the pixels of each class: (H, W) uint8 -> float64 (nclass,)."""
    flat = class_map.reshape(-1)
    parts = (flat[first:first + _COUNTED] for first in range(0, flat.size, _COUNTED))
    count = sum((np.bincount(part, minlength=nclass) for part in parts), np.zeros(nclass, np.int64))
    return count / flat.size


def shares_of(fractions: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Return the fractions that are not 0 by the names of their classes, largest first."""
    return {classes[i]: float(fractions[i]) for i in np.argsort(-fractions, kind="stable") if fractions[i]}


def as_rgb(image: Any, decoding: Decoding = PLAIN) -> np.ndarray:
    """Return an image, in any form that :class:`Predictor` takes, as a uint8 (H, W, 3) RGB array.

    Args:
        image: see :meth:`Predictor.__call__`.
        decoding: how files that are not 8-bit grey or RGB are converted.

    Raises:
        DataError, DataNotFoundError: a file is missing or holds no image.
        UsageError: a value that is no 8-bit RGB image and cannot be read as one without loss.
    """
    if isinstance(image, (str, Path)):
        return read_image(image, decoding=decoding)
    if isinstance(image, Image.Image):
        if image.mode not in _RGB_MODES:
            raise UsageError("the PIL image is not RGB, grey or a palette image", received=f"mode {image.mode}",
                             fix="convert it first: image.convert('RGB') drops alpha; 16-bit and float images need "
                                 "scaling to 0..255")
        return np.asarray(image.convert("RGB"))
    if hasattr(image, "asnumpy"):  # an array of MXNet, which need not be installed
        image = image.asnumpy()
    if not isinstance(image, np.ndarray):
        raise UsageError("not an image", received=type(image).__name__,
                         fix="give a path, a NumPy or MXNet array, a PIL image, or a list of these")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UsageError("an image must be a uint8 array (H, W, 3), RGB", received=f"{image.dtype} {image.shape}",
                         fix="convert it: gray[..., None].repeat(3, 2), (float_image * 255).astype('uint8'), "
                             "chw.transpose(1, 2, 0)")
    return image
