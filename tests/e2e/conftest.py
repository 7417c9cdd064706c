"""The commands as a user runs them, on twelve small images with FCN-ResNet18 at output stride 32."""
import contextlib
import io
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mxnetseg.tools.main import run_command

COLORS = np.array([(200, 40, 40), (40, 200, 40), (40, 40, 200)], np.uint8)
# a small network, and fixed values for the keys that configs/fcn.yaml may tune
SET = ["model.output_stride=32", "model.aux=true", "optimizer.name=sgd", "optimizer.lr=0.01",
       "schedule.warmup_epochs=0", "train.val_every=1", "eval.ms_scales=[0.5, 1.0, 1.5]"]
OPTIONS = ["--model", "fcn", "--backbone", "resnet18", "--crop", "32", "--base", "48", "--batch-size", "2",
           "--workers", "1", "--log-interval", "1", *(word for text in SET for word in ("--set", text))]


@pytest.fixture(scope="session")
def options():
    """Return the options of a training that takes seconds, without those for data and weights."""
    return OPTIONS


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Write a folder data set with 6 training, 3 validation and 3 test images. To change it, use :func:`own_data`."""
    root, rng = tmp_path_factory.mktemp("data") / "tiles", np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for split, count in (("train", 6), ("val", 3), ("test", 3)):
        names = [f"{split}{i}" for i in range(count)]
        (root / f"{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            mask = rng.integers(0, 3, (3, 4), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
            Image.fromarray(COLORS[mask] + rng.integers(0, 40, (48, 64, 3), dtype=np.uint8)).save(
                root / "images" / f"{name}.png")
            if split != "test":
                Image.fromarray(mask).save(root / "masks" / f"{name}.png")
    (root / "classes.txt").write_text("red\ngreen\nblue\n")
    return root


@pytest.fixture
def own_data(data, tmp_path):
    """Copy the data set, so that a test may damage it."""
    return shutil.copytree(data, tmp_path / "tiles")


def run(command, *arguments):
    """Run a command in this process; return ``code``, ``out`` and ``err``."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_command(command, [str(a) for a in arguments])
    return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())


@pytest.fixture(scope="session")
def command():
    return run


@pytest.fixture(scope="session")
def trained(data, options, tmp_path_factory):
    """Train for two epochs; yield the folder of the weights. To change it, use :func:`own_weights`."""
    weights = tmp_path_factory.mktemp("trained") / "weights"
    result = run("train", *options, "--data", data, "--epochs", "2", "--weights", weights)
    assert result.code == 0, result.err
    yield SimpleNamespace(weights=weights, out=result.out, err=result.err)
    shutil.rmtree(weights)  # pytest keeps the folders of three sessions, and this one is large


@pytest.fixture
def own_weights(trained, tmp_path):
    """Link the weights, so that a test may damage them; ``last`` and ``best`` are the ``.params`` files.

    Replace the files instead of changing them, since they are hard links.
    """
    weights = shutil.copytree(trained.weights, tmp_path / "weights", copy_function=os.link)
    best, = weights.glob("fcn/*_best.params")
    yield SimpleNamespace(weights=weights, best=best, last=best.with_name(best.name.replace("_best", "")))
    shutil.rmtree(weights)


def pytest_collection_modifyitems(items):
    """Ignore MXNet's warning about parameters that a graph does not use; inference leaves out auxiliary heads."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings("ignore:Parameter .* is not used:UserWarning"))
