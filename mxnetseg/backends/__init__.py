"""Networks in MXNet and outside it, and their training. All but the files ``mxnet_*`` runs without MXNet.

==========================  =======================================================================================
:mod:`.runtime`             the interface between the evaluation protocol and a backend
:mod:`.choice`              the backends by name, and what ``--backend auto`` means
:mod:`.mxnet_runtime`       networks in MXNet
:mod:`.torch_runtime`       networks in PyTorch
:mod:`.onnx_runtime`        networks in ONNX Runtime
:mod:`.openvino_runtime`    networks in OpenVINO
:mod:`.package`             a network as plain data, the record that describes it, and the formats of our own
:mod:`.mxnet_trace`         the prediction of a Gluon network as plain data
:mod:`.torch_graph`         ``to_torch``: a network or an exported symbol as a module of PyTorch
:mod:`.onnx_graph`          ``to_onnx``: a network or an exported symbol as an ONNX model
:mod:`.walk`                the graph and the parameters that a conversion starts from, checked
:mod:`.signatures`          the operators of MXNet and their arguments
:mod:`.operators`           the functions for the operators, and the reader of their arguments
:mod:`.resizes`             resizes written as matrix products, as one operator
:mod:`.onnx_writer`         the writer of an ONNX graph
:mod:`.torch_ops`           operators by element: arithmetic, comparisons, activations, reductions, indexing
:mod:`.torch_convolutions`  convolutions, and which of them are unsafe in half precision
:mod:`.torch_layers`        layers: dense, pooling, norms, dropout, resizing, softmax
:mod:`.torch_indexing`      operators that sort, count, gather and fill
:mod:`.torch_shapes`        operators that arrange: reshape, transpose, slice, concatenate, pad
:mod:`.onnx_ops`, ...       the same in four files for ONNX
:mod:`.training`            the interface between the trainer and the library that computes its steps
:mod:`.mxnet_training`      steps in MXNet, with :mod:`.mxnet_step`, :mod:`.mxnet_parallel`, :mod:`.mxnet_optimizers`
:mod:`.torch_training`      steps in PyTorch, with :mod:`.torch_optimizers` and :mod:`.torch_devices`
:mod:`.mxnet_kvstore`       several processes of MXNet, with :mod:`.mxnet_server`, the child processes that sum
:mod:`.torch_distributed`   several processes of PyTorch: gradients, batch norm
:mod:`.group`               the processes of a training, as backends see them
==========================  =======================================================================================

``torch``, ``onnx``, ``openvino`` and ``mxnet`` are imported only in the files whose names begin with them.
"""
