"""Networks that leave: files and folders for other programs. No file imports MXNet before it is needed.

=======================  =======================================================================================
:mod:`.formats`          the formats of ``mxnetseg export``, and an export from its start to its end
:mod:`.staging`          exports that appear complete or not at all
:mod:`.verification`     the comparison of a written network with its source
:mod:`.references`       the program that computes the source
:mod:`.onnx_format`      ONNX files; :mod:`.onnx_float16` (``to_float16``) and :mod:`.onnx_int8` change their precision
:mod:`.torch_format`     programs of ``torch.export``
:mod:`.openvino_format`  OpenVINO's intermediate representation
:mod:`.plain_formats`    files for stock MXNet, and folders for the hub with :mod:`.model_card`
:mod:`.triton`           model repositories for Triton, OpenVINO Model Server and KServe
=======================  =======================================================================================
"""
