"""Models of GluonCV's and MXNet's model zoos in PyTorch, through exported files, against MXNet."""
import mxnet as mx
import numpy as np
import pytest
import zoo

torch = pytest.importorskip("torch")

from mxnetseg import to_torch  # noqa: E402

QUICK = ("mobilenetv3_small", "squeezenet1.1", "se_resnet18_v1", "hrnet_w18_small_v1_c")


def difference(module, data, wanted):
    """Return the largest difference relative to the largest output."""
    with torch.no_grad():
        got = module(torch.from_numpy(data))
    got = got if isinstance(got, tuple) else (got,)
    assert [tuple(one.shape) for one in got] == [one.shape for one in wanted]
    assert all(np.isfinite(one).all() and np.ptp(one) > 0 for one in wanted)
    return max(np.abs(one.numpy() - other).max() / np.abs(other).max() for one, other in zip(got, wanted))


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
                                  for name in zoo.ENTRIES])
def test_exported_models_have_mxnets_outputs(name, tmp_path):
    model = zoo.write_model(name, tmp_path)
    assert difference(to_torch(model.symbol, model.params), model.data, model.outputs) <= 1e-4
    model.params.unlink()


@pytest.mark.parametrize("version", ["0.8", "1.0"])
def test_symbols_of_older_versions_are_read(version, tmp_path):
    model = zoo.write_model("mobilenetv3_small", tmp_path)
    zoo.age(model.symbol, version)
    assert '"attrs"' not in model.symbol.read_text().partition('"heads"')[0]
    assert mx.sym.load(str(model.symbol)).list_outputs()  # MXNet 1.9.1 still reads it
    assert difference(to_torch(model.symbol, model.params), model.data, model.outputs) <= 1e-4
