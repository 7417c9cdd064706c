"""Networks outside MXNet. Everything here runs from exported files without MXNet.

==========================  =======================================================================================
:mod:`.torch_graph`         ``to_torch``: a network or an exported symbol as a module of PyTorch
:mod:`.operators`           the table of operators and the reader of their arguments
:mod:`.torch_ops`           operators by element: arithmetic, comparisons, activations, reductions, indexing
:mod:`.torch_layers`        layers: convolution, pooling, norms, dropout, resizing, softmax
:mod:`.torch_indexing`      operators that sort, count, gather and fill
:mod:`.torch_shapes`        operators that arrange: reshape, transpose, slice, concatenate, pad
==========================  =======================================================================================

``torch`` is imported in the files whose names begin with ``torch_``.
"""
