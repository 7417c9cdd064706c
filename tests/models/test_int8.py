"""Networks in int8: all of them run, and DDRNet-23-slim predicts the same classes after a short training."""
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context

import mxnet as mx
import numpy as np
import pytest
from small_networks import SMALL

from mxnetseg.config import load_config
from mxnetseg.data import get_dataset
from mxnetseg.engine.predictor import Predictor
from mxnetseg.engine.trainer import Trainer
from mxnetseg.graph.inference_graph import compile_for_inference
from mxnetseg.models import get_model, list_models
from mxnetseg.nn.blocks import InputStep


def logits_in_int8(name):
    net = get_model(name, nclass=5, **SMALL.get(name, {}))
    images = list(np.random.RandomState(0).randint(0, 256, (2, 64, 96, 3)).astype("uint8"))
    network = compile_for_inference(net, [mx.cpu()], "int8", calibration=images)
    step = InputStep(net.mean, net.std)
    step.initialize()
    return network(step(mx.nd.array(images[0][None], dtype="uint8")))[0].asnumpy()


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "pidnet" else pytest.mark.slow)
                                  for n in list_models()])
def test_every_network_runs_in_int8(name):
    # A process of its own: the preparation takes up to 10 GB, of which 0.3 GB are never freed.
    # Like all that uses MXNet, it imports mxnetseg first.
    with ProcessPoolExecutor(1, get_context("spawn"), import_module, ("mxnetseg",)) as pool:
        logits = pool.submit(logits_in_int8, name).result()
    assert logits.shape == (1, 5, 64, 96) and np.isfinite(logits).all()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_int8_keeps_the_classes_of_nearly_all_pixels(tmp_path):
    """Layers stay in float32 until 99.2 % of the calibration images' pixels keep their class; of others, 99.0 % do."""
    config = load_config(model="ddrnet", overrides=[
        "train.epochs=8", "train.val_every=0", "data.crop_size=[128, 192]", "data.base_size=192",
        "data.scale=[0.75, 1.5]", "optimizer.lr=0.02"])
    trained = Trainer(config, [mx.cpu()], folder=tmp_path, quiet=True).fit().last
    calibration = get_dataset("sample", split="train")
    images = [calibration[i].image for i in range(0, len(calibration), 20)]
    exact, quantised = Predictor(trained), Predictor(trained, precision="int8", calibration=images)
    val = get_dataset("sample", split="val")
    same = [np.mean(exact(val[i].image).class_map == quantised(val[i].image).class_map) for i in range(len(val))]
    classes = np.unique([exact(val[i].image).class_map for i in range(len(val))])
    print(f"{np.mean(same):.4f} of the pixels keep their class; least {min(same):.4f}; {len(classes)} classes seen")
    assert np.mean(same) >= 0.985 and len(classes) > 3
