"""Images per second of a network: each backend that reads it is measured; a precision that is not offered says why."""
import pytest

from benchmarks import rate


@pytest.mark.parametrize("backend", ["mxnet", "onnxruntime"])
def test_the_included_network_is_measured(backend):
    pytest.importorskip(backend)
    fast, refused = rate.compare(["included"], (64, 96), rounds=1, threads=1, backends=(backend,),
                                 precisions=("float32", "int8"))
    assert fast.failure is None and fast.median > 0
    assert "int8" in refused.failure


def test_the_table_names_images_per_second(capsys):
    rate.main(["included", "--size", "64", "96", "--rounds", "1", "--backends", "mxnet", "--precisions", "float32"])
    heading, row = capsys.readouterr().out.strip().splitlines()[-2:]
    assert "images/s" in heading
    assert row.startswith("included mxnet float32")
