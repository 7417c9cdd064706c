"""Network of two layers and images of 32 x 24, with which a whole training run takes a second."""
import json
import signal
import sys
import types
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn
from PIL import Image

from mxnetseg.config import Config
from mxnetseg.engine.trainer import Trainer
from mxnetseg.errors import canonical
from mxnetseg.models import MODELS
from mxnetseg.models._base import SegModel
from mxnetseg.nn.blocks import ConvModule2d
from mxnetseg.nn.resize import resize

COLORS = np.array([(200, 40, 40), (40, 200, 40), (40, 40, 200)], np.uint8)


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


@pytest.fixture(scope="module", autouse=True)
def toy():
    """Register the network ``toy`` while the tests of a module run, and draw no curves."""
    module = types.ModuleType("mxnetseg_toy_network")
    module.Toy = Toy
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        patch.setitem(MODELS._entries, "toy", f"{module.__name__}:Toy")
        patch.setitem(MODELS._lookup, canonical("toy"), "toy")
        patch.setattr("mxnetseg.engine.loggers.curves", lambda rows, path: path.touch())  # a third of a second each
        yield Toy


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


@pytest.fixture(scope="session")
def painting():
    return paint


@pytest.fixture(scope="session")
def images_folder(tmp_path_factory):
    """Folder data of three classes: 6 images to train on, 3 to validate on. Do not write to it."""
    return paint(tmp_path_factory.mktemp("data") / "fields")


@pytest.fixture(scope="session")
def configure(images_folder):
    """Function that returns a configuration of the toy: ``configure({'train.epochs': 2}, data=folder)``."""
    def make(changes=(), *, data=None):
        return Config().replace({
            "model.name": "toy", "data.name": f"folder:{data or images_folder}", "data.base_size": 32,
            "data.crop_size": [16, 16], "data.scale": [0.75, 1.25], "data.workers": 1, "train.batch_size": 2,
            "train.epochs": 3, "train.log_every": 1, "optimizer.lr": 0.05}).replace(dict(changes))
    return make


def train(config, folder, *, contexts=1, stop_at=None, **options):
    """Run a trainer; with ``stop_at`` it receives SIGTERM during that step, counted from 1 in this run."""
    trainer = Trainer(config, [mx.cpu(i) for i in range(contexts)], folder=folder, quiet=True, **options)
    if stop_at is not None:
        backward, steps = trainer._backward, iter(range(1, 10**6))

        def step(micro_batches):
            loss = backward(micro_batches)
            if next(steps) == stop_at:
                signal.raise_signal(signal.SIGTERM)
            return loss
        trainer._backward = step
    return trainer, trainer.fit()


@pytest.fixture(scope="session")
def fit():
    return train


class Written:
    """Content of the files of a run that must not depend on where the run was stopped."""

    def __init__(self, result):
        self.params = _arrays(result.last.path)
        self.state = _arrays(result.last.path.with_suffix(".state"))
        self.best = _arrays(result.best.path) if result.best else None
        sidecar = result.last.read_sidecar()
        self.sidecar = {key: sidecar[key] for key in ("model", "data", "metrics", "config", "normalisation")}
        self.progress = {k: v for k, v in sidecar["progress"].items() if k != "seconds"}
        rows = map(json.loads, result.last.path.with_suffix(".jsonl").read_text().splitlines())
        self.log = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def _arrays(path):
    return {name: value.asnumpy().tobytes() for name, value in mx.nd.load(str(path)).items()}


@pytest.fixture(scope="session")
def written():
    return Written


def pytest_collection_modifyitems(items):
    """Ignore MXNet's warning of a graph that leaves parameters out; inference does so on purpose."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings("ignore:Parameter .* is not used:UserWarning"))
