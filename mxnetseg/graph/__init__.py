"""Symbol graphs as data, and the passes that rewrite them. This package imports :mod:`mxnetseg.nn` at most.

==========================  =======================================================================================
:mod:`.graph`               a symbol as a list of nodes that can be read and rewired
:mod:`.passes`              lists of passes, and the switch of each pass
:mod:`.precision_phase`     the passes that run once per precision
:mod:`.shape_phase`         the passes that run once per input shape
:mod:`.training`            the passes of a training graph
:mod:`.inference_graph`     a network compiled for inference at a precision
:mod:`.shape_cache`         graphs compiled for the input shapes that recur
:mod:`.blocks`              Gluon blocks from symbols, and blocks compiled into one graph
:mod:`.idle`                operators that do nothing in an inference
:mod:`.half_precision`      conversion to bfloat16 and float16
:mod:`.int8`                conversion to int8
:mod:`.int8_search`         the layers that an int8 network keeps in float32
:mod:`.convolutions`        the fused 3x3 convolutions of a graph, and their replacement by other operators
:mod:`.winograd`            3x3 convolutions with a quarter of the multiplications
:mod:`.dilated`             widely dilated 3x3 convolutions without the zeros around the map
==========================  =======================================================================================
"""
