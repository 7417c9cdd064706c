"""Models of GluonCV's and MXNet's model zoos in ONNX Runtime, through exported files, against MXNet."""
import numpy as np
import pytest
import zoo

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx_operators import session  # noqa: E402

from mxnetseg import to_onnx  # noqa: E402

# Its random weights amplify rounding: MXNet differs from a computation in float64 by 4e-4, ONNX Runtime by 1e-4.
TOLERANCES = {"icnet_resnet50_citys": 1e-3}
QUICK = ("mobilenetv3_small", "squeezenet1.1", "se_resnet18_v1")


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
                                  for name in zoo.ENTRIES])
def test_exported_models_have_mxnets_outputs(name, tmp_path):
    model = zoo.write_model(name, tmp_path)
    shapes = {} if model.data.ndim == 4 else {"data": ("N", *model.data.shape[1:])}
    got = session(to_onnx(model.symbol, model.params, outputs="all", shapes=shapes)).run(None, {"data": model.data})
    assert [one.shape for one in got] == [one.shape for one in model.outputs]
    for one, other in zip(got, model.outputs):
        assert np.isfinite(one).all()
        assert np.abs(one - other).max() <= TOLERANCES.get(name, 1e-4) * np.abs(other).max()
    model.params.unlink()
