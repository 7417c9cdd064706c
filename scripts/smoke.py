"""Try the installed package: make a network and run it on one picture of noise."""
from mxnetseg.models import get_model  # isort: skip  (first: it prepares NumPy for mxnet)

import mxnet as mx

network = get_model("fcn", backbone="resnet18", nclass=5)
logits = network(mx.nd.random.uniform(shape=(1, 3, 65, 97)))[0]
print("fcn:", logits.shape)
if logits.shape != (1, 5, 65, 97):
    raise SystemExit("the logits are not of the picture's size")
