"""Network of two layers and images of 32 x 24, with which a whole training run takes a second."""
import json
from pathlib import Path

import mxnet as mx
import pytest
from toy_network import Toy, paint, register, stopped_at

from mxnetseg.config import Config
from mxnetseg.engine.trainer import Trainer


@pytest.fixture(scope="module", autouse=True)
def toy():
    """Register the network ``toy`` while the tests of a module run, and draw no curves."""
    with pytest.MonkeyPatch.context() as patch:
        register(patch.setitem)
        patch.setattr("mxnetseg.engine.loggers.curves", lambda rows, path, **_: path.touch())  # takes 0.3 s
        yield Toy


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
    return trainer, stopped_at(trainer, stop_at).fit()


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
