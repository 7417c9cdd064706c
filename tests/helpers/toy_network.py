"""The smallest network, with which a whole training run takes a second, and images to train it on."""
import signal

import numpy as np
from mxnet.gluon import nn
from PIL import Image

from mxnetseg.errors import canonical
from mxnetseg.models import MODELS
from mxnetseg.models._base import SegModel
from mxnetseg.nn.blocks import ConvModule2d
from mxnetseg.nn.resize import resize

COLORS = np.array([(200, 40, 40), (40, 200, 40), (40, 40, 200)], np.uint8)
ENTRY = f"{__name__}:Toy"


class Toy(SegModel):
    """Strided convolution, dropout, and a 1x1 convolution; a second one with ``aux``. ``backbone`` is only a name."""

    def __init__(self, *, nclass, backbone="resnet18", aux=False, norm_layer=nn.BatchNorm, norm_kwargs=None):
        stages = nn.HybridSequential()
        super().__init__(stages, nclass)
        with stages.name_scope():
            stages.add(ConvModule2d(6, strides=2, in_channels=3, norm_layer=norm_layer, norm_kwargs=norm_kwargs))
        with self.name_scope():
            self.drop = nn.Dropout(0.2)
            self.head = nn.Conv2D(nclass, 1, in_channels=6)
            self.aux_head = nn.Conv2D(nclass, 1, in_channels=6) if aux else None

    def hybrid_forward(self, F, x):
        features = self.drop(self.backbone(x))
        outputs = [self.head(features)]
        if self.aux_head is not None:
            outputs.append(self.aux_head(features))
        return tuple(resize(F, y, x, align_corners=False) for y in outputs)


def register(patch):
    """Register the network ``toy``.

    Args:
        patch: sets an item of a mapping: ``patch(mapping, key, value)``.
    """
    patch(MODELS._entries, "toy", ENTRY)
    patch(MODELS._lookup, canonical("toy"), "toy")


def paint(root, *, train=6, val=3, test=0, classes=("red", "green", "blue"), size=(24, 32), seed=0, void=True):
    """Write folder data whose classes differ by their colour; each image is a grid of 8 x 8 fields."""
    rng = np.random.default_rng(seed)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for split, count in (("train", train), ("val", val), ("test", test)):
        names = [f"{split}{i}" for i in range(count)]
        for name in names:
            mask = rng.integers(0, len(classes), (-(-size[0] // 8), -(-size[1] // 8))).astype(np.uint8)
            mask = mask.repeat(8, 0).repeat(8, 1)[:size[0], :size[1]]
            image = COLORS[mask % 3] + rng.integers(0, 40, (*size, 3), dtype=np.uint8)
            if void:
                mask[:2] = 255
            Image.fromarray(image).save(root / "images" / f"{name}.png")
            if split != "test":
                Image.fromarray(mask).save(root / "masks" / f"{name}.png")
        if names:
            (root / f"{split}.txt").write_text("\n".join(names) + "\n")
    (root / "classes.txt").write_text("\n".join(classes) + "\n")
    return root


def stopped_at(trainer, number):
    """Return a trainer that receives SIGTERM during step ``number``, counted from 1 in its run; None: never."""
    if number is not None:
        backward, steps = trainer._backward, iter(range(1, 10**6))

        def step(batch):
            loss = backward(batch)
            if next(steps) == number:
                signal.raise_signal(signal.SIGTERM)
            return loss
        trainer._backward = step
    return trainer
