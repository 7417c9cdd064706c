"""DenseNets against GluonCV's at sizes that are not multiples of 32, and decoders on their maps."""
from importlib import import_module
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest

from mxnetseg.backends.mxnet_runtime import MXNetRuntime
from mxnetseg.config import Config
from mxnetseg.engine.inference import Segmenter
from mxnetseg.engine.protocol import Protocol
from mxnetseg.engine.trainer import Trainer
from mxnetseg.errors import ConfigError, DataError, UnknownNameError
from mxnetseg.graph.inference_graph import compile_for_inference
from mxnetseg.models import get_model, list_models, model_arguments
from mxnetseg.models.backbones import get_backbone
from mxnetseg.models.weights.pretrained import load_pretrained_base

# indices in GluonCV's `features`: the last layer of each dense block, and the ReLU after the last norm
_TAPS = (4, 6, 8, 12)


def image(height, width):
    return mx.nd.array(np.random.RandomState(height * width).normal(size=(1, 3, height, width)))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Return GluonCV's classifier, and our backbone with its weights."""
    mx.random.seed(0)
    theirs = import_module("gluoncv.model_zoo.densenet").densenet121()
    theirs.initialize(mx.init.MSRAPrelu(factor_type="in", slope=0.0))
    theirs(image(224, 224))
    file = tmp_path_factory.mktemp("densenet") / "classifier.params"
    theirs.save_parameters(str(file))
    ours = get_backbone("densenet121")
    ours.initialize()
    ours(image(64, 64))
    load_pretrained_base(SimpleNamespace(backbone=ours), file)
    return theirs, ours


@pytest.mark.parametrize("size", [(64, 96), (65, 97), (49, 75), (79, 110), (33, 62), (29, 29)])
def test_features_equal_gluoncvs_at_any_size(pair, size):
    theirs, ours = pair
    y, wanted = image(*size), []
    for number, layer in enumerate(list(theirs.features._children.values())[:13]):
        y = layer(y)
        if number in _TAPS:
            wanted.append(y.asnumpy())
    for got, one in zip(ours(image(*size)), wanted):
        assert got.shape == one.shape
        assert np.abs(got.asnumpy() - one).max() <= 1e-5 * np.abs(one).max()


def _accepts(name):
    arguments = {"backbone": "densenet121", "output_stride": 32}
    arguments = {k: v for k, v in arguments.items() if k in model_arguments(name)}
    if "backbone" not in arguments:
        return None
    try:
        return get_model(name, nclass=3, **arguments)
    except (ConfigError, UnknownNameError):  # a decoder for other backbones
        return None


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_every_decoder_accepts_sizes_that_are_rounded_down(name):
    net = _accepts(name)
    if net is None:
        pytest.skip("does not run on a DenseNet")
    for size in [(75, 97), (64, 65), (127, 94)]:
        plain = net(image(*size))[0]
        assert plain.shape == (1, 3, *size) and np.isfinite(plain.asnumpy()).all()


def test_a_too_small_image_is_refused():
    net = get_model("ladderdensenet", nclass=3)
    assert net.smallest_side == 29
    for graph in (net, compile_for_inference(net, [mx.cpu()])):
        whole = Segmenter(MXNetRuntime(graph))
        assert whole(np.zeros((29, 40, 3), np.uint8)).shape == (29, 40)
        with pytest.raises(DataError, match="at least 29 pixels") as error:
            whole(np.zeros((40, 28, 3), np.uint8))
        assert "40 x 28" in str(error.value)

        scaled = Segmenter(MXNetRuntime(graph), Protocol(scales=(0.5, 1.0)))
        with pytest.raises(DataError, match="at least 29 pixels") as error:
            scaled(np.zeros((56, 80, 3), np.uint8))
        assert "28 x 40" in str(error.value)


def test_too_small_crops_are_refused_before_training(tmp_path):
    config = Config().replace({"model.name": "ladderdensenet", "model.backbone": "densenet121", "data.name": "sample",
                               "data.crop_size": [28, 64], "train.batch_size": 2})
    with pytest.raises(ConfigError, match="at least 29 pixels") as error:
        Trainer(config, [mx.cpu()], folder=tmp_path, validate=False, quiet=True)
    assert "data.crop_size" in str(error.value)
