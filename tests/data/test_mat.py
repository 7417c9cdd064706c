"""Masks in MATLAB files, and the errors for files that cannot be read."""
import sys

import numpy as np
import pytest
from scipy.io import savemat

from mxnetseg.data.mat import read_mat, read_mat_mask
from mxnetseg.errors import DataError, DataNotFoundError, EnvironmentProblem

IDS = np.arange(12, dtype=np.uint8).reshape(3, 4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64])
@pytest.mark.parametrize("compress", [False, True])
def test_matrix(tmp_path, dtype, compress):
    savemat(tmp_path / "m.mat", {"S": IDS.astype(dtype)}, do_compression=compress)
    mask = read_mat_mask(tmp_path / "m.mat", variable="S")
    assert mask.dtype == np.uint8 and np.array_equal(mask, IDS)


def test_field_of_a_struct(tmp_path):
    savemat(tmp_path / "m.mat", {"GTcls": {"Segmentation": IDS, "Boundaries": 1}})
    assert np.array_equal(read_mat_mask(tmp_path / "m.mat", variable="GTcls", field="Segmentation"), IDS)


@pytest.mark.parametrize("content, received", [
    ({"T": IDS}, "variables T"),
    ({"S": "text"}, "shape ()"),
    ({"S": np.zeros((2, 3, 3))}, "shape (2, 3, 3)"),
    ({"S": np.full((2, 3), 256, np.uint16)}, "values 256..256"),
    ({"S": np.full((2, 3), -1)}, "values -1..-1"),
    ({"S": np.full((2, 3), 0.5)}, "values 0.5..0.5"),
    ({"S": np.full((2, 3), np.nan)}, "values nan..nan"),
], ids=["no such variable", "text", "three dimensions", "too large", "negative", "fraction", "nan"])
def test_variables_that_are_not_a_matrix_of_ids(tmp_path, content, received):
    savemat(tmp_path / "m.mat", content)
    with pytest.raises(DataError) as error:
        read_mat_mask(tmp_path / "m.mat", variable="S")
    assert error.value.where == tmp_path / "m.mat" and received in error.value.received and error.value.fix


def test_struct_without_the_field(tmp_path):
    savemat(tmp_path / "m.mat", {"GTinst": {"Segmentation": IDS}, "GTcls": {"Boundaries": 1}})
    with pytest.raises(DataError, match="no GTcls.Segmentation") as error:
        read_mat_mask(tmp_path / "m.mat", variable="GTcls", field="Segmentation")
    assert error.value.received == "variables GTcls, GTinst"


@pytest.mark.parametrize("keep", [0, 1, 100, 200, -1])
def test_truncated(tmp_path, keep):
    path = tmp_path / "m.mat"
    savemat(path, {"S": np.zeros((40, 40), np.uint8)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError) as error:
        read_mat_mask(path, variable="S")
    assert error.value.where == path and error.value.fix


def test_missing(tmp_path):
    with pytest.raises(DataNotFoundError, match="no such MATLAB file"):
        read_mat(tmp_path / "m.mat")


@pytest.mark.parametrize("start, package", [(b"MATLAB 5.0 MAT-file", "scipy"), (b"MATLAB 7.3 MAT-file", "h5py")])
def test_package_that_is_not_installed(tmp_path, monkeypatch, start, package):
    monkeypatch.setitem(sys.modules, "scipy.io" if package == "scipy" else package, None)  # import fails
    (tmp_path / "m.mat").write_bytes(start)
    with pytest.raises(EnvironmentProblem, match=package) as error:
        read_mat(tmp_path / "m.mat")
    assert error.value.fix == "pip install 'mxnetseg[prepare]'"


def test_mask_of_version_7_3_is_refused_before_anything_is_imported(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "m.mat").write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")
    with pytest.raises(DataError, match="version 7.3"):
        read_mat_mask(tmp_path / "m.mat", variable="S")
