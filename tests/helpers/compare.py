"""Inputs and comparisons that several tests of networks share."""
import mxnet as mx
import numpy as np


def random_image(*size):
    """Return normal numbers as one image of that height and width: (1, 3, H, W)."""
    return mx.nd.array(np.random.RandomState(sum(size)).normal(size=(1, 3, *size)))


def copy_parameters(source, target):
    """Give ``target`` the values of the parameters that ``source`` has under the same structural names."""
    values = source._collect_params_with_prefix()
    for name, p in target._collect_params_with_prefix().items():
        p.set_data(values[name].data())


def assert_close(got, wanted, relative=1e-5):
    """Compare arrays of one shape, to ``relative`` of the largest value."""
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= relative * np.abs(wanted).max()
