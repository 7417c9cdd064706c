"""First values, and how they lie in memory."""
import mxnet as mx
import numpy as np

from mxnetseg.models import get_model
from mxnetseg.models.weights.loading import plain_layout


def writable(value):
    """MXNet refuses to copy into an array that oneDNN has laid out."""
    try:
        value[:] = value.asnumpy()
    except mx.MXNetError:
        return False
    return True


def test_a_network_is_born_in_plain_layout_and_returned_to_it():
    net = get_model("fcn", backbone="resnet18", nclass=3)
    weights = [p.data() for p in net.collect_params().values() if len(p.shape) == 4]
    assert all(writable(w) for w in weights)
    net(mx.nd.ones((1, 3, 32, 32)))[0].wait_to_read()
    if all(writable(w) for w in weights):  # a processor on which oneDNN needs no other layout
        return
    before = {name: p.data().asnumpy() for name, p in net.collect_params().items()}
    plain_layout(net)
    assert all(writable(w) for w in weights)
    for name, p in net.collect_params().items():
        np.testing.assert_array_equal(p.data().asnumpy(), before[name])
