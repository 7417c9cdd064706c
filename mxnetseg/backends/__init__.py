"""Networks outside MXNet. Everything here runs from exported files without MXNet.

==========================  =======================================================================================
:mod:`.package`             a network as plain data, the record that describes it, and the formats of our own
:mod:`.mxnet_trace`         the prediction of a Gluon network as plain data
:mod:`.torch_graph`         ``to_torch``: a network or an exported symbol as a module of PyTorch
:mod:`.operators`           the table of operators and the reader of their arguments
:mod:`.torch_ops`           operators by element: arithmetic, comparisons, activations, reductions, indexing
:mod:`.torch_layers`        layers: convolution, pooling, norms, dropout, resizing, softmax
:mod:`.torch_shapes`        operators that arrange: reshape, transpose, slice, concatenate, pad
==========================  =======================================================================================

``torch`` is imported in the files whose names begin with ``torch_``, ``mxnet`` in those that begin with ``mxnet_``.
"""
