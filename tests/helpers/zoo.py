"""Models of GluonCV's and MXNet's model zoos as exported files, with random weights and without a network connection.

    model = write_model("resnet18_v1d", folder)      # folder/resnet18_v1d-symbol.json, folder/resnet18_v1d-0000.params
    to_torch(model.symbol, model.params)(torch.from_numpy(model.data)), model.outputs

The batch norms get statistics as after training: neither is the output constant nor does it overflow.
"""
from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import mxnet as mx
import numpy as np

CIFAR = (1, 3, 32, 32)
_NO_DOWNLOAD = {"pretrained_base": False, "ctx": mx.cpu()}


class Entry(NamedTuple):
    """A model: its name in the zoo, the shape of its input, the arguments of its constructor.

    ``trains`` is False for a network that cannot be called in training mode, which needs labels or a fixed size.
    """

    name: str
    shape: tuple[int, ...]
    arguments: Mapping[str, Any] = {}
    trains: bool = True


class ZooModel(NamedTuple):
    """Exported files, an input (N, 3, H, W), and what MXNet computes from it."""

    symbol: Path
    params: Path
    data: np.ndarray
    outputs: list[np.ndarray]


def _seg(name: str, height: int, width: int, **more: Any) -> Entry:
    return Entry(name, (1, 3, height, width), {**_NO_DOWNLOAD, "height": height, "width": width, **more})


def _image(name: str, size: int, **arguments: Any) -> Entry:
    return Entry(name, (1, 3, size, size), {"classes": 10, **arguments})


_CLASSES = {"classes": ["a", "b"], "pretrained_base": False, "transfer": None}

# The twelve models that issue 16 names. Sizes are small where the network allows it.
NAMED: dict[str, Entry] = {
    "resnet50_v1d": _image("resnet50_v1d", 64), "resnext50_32x4d": _image("resnext50_32x4d", 64),
    "se_resnet18_v1": _image("se_resnet18_v1", 64), "densenet121": _image("densenet121", 224),
    "mobilenetv3_small": _image("mobilenetv3_small", 64), "squeezenet1.1": _image("squeezenet1.1", 224),
    "vgg11_bn": _image("vgg11_bn", 32), "inceptionv3": _image("inceptionv3", 299),
    "resnest50": _image("resnest50", 128, input_size=128), "hrnet_w18_small_v1_c": _image("hrnet_w18_small_v1_c", 64),
    "fcn_resnet50_voc": _seg("fcn_resnet50_voc", 64, 96),
    "deeplab_resnet50_citys": _seg("deeplab_resnet50_citys", 64, 96)}

# One small network of each further family.
FURTHER: dict[str, Entry] = {
    **{name: _image(name, 64) for name in (
        "resnet18_v1", "resnet18_v2", "se_resnet18_v2", "resnet18_v1b", "resnet50_v1c", "resnet50_v1e", "resnet50_v1s",
        "se_resnext50_32x4d", "vgg11",
        "xception", "xception71", "mobilenet0.25", "mobilenetv2_0.25", "mobilenetv3_large", "darknet53",
        "hrnet_w18_small_v2_c", "dla34")},
    **{name: _image(name, 224) for name in (
        "alexnet", "googlenet", "squeezenet1.0", "shufflenet_v1", "shufflenet_v2", "residualattentionnet56")},
    "nasnet_4_1056": _image("nasnet_4_1056", 224)._replace(trains=False),
    "resnet18_v1b_0.89": Entry("resnet18_v1b_0.89", (1, 3, 64, 64)),
    "resnet50_v1d_0.11": Entry("resnet50_v1d_0.11", (1, 3, 64, 64)),
    "resnest14": _image("resnest14", 64, input_size=64),
    **{name: Entry(name, CIFAR) for name in (
        "cifar_resnet20_v1", "cifar_resnet20_v2", "cifar_wideresnet16_10", "cifar_resnext29_32x4d",
        "cifar_residualattentionnet56")},
    **{f"mxnet_{name}": Entry(f"mxnet:{name}", (1, 3, size, size)) for name, size in (
        ("resnet18_v1", 64), ("resnet18_v2", 64), ("vgg11_bn", 32), ("alexnet", 224), ("densenet121", 224),
        ("squeezenet1.1", 224), ("inceptionv3", 299), ("mobilenet0.25", 64), ("mobilenetv2_0.25", 64))},
    # segmentation
    "hrnet_w18_small_v1_s": Entry("hrnet_w18_small_v1_s", (1, 3, 64, 96)),
    "psp_resnet50_ade": _seg("psp_resnet50_ade", 96, 96, base_size=96, crop_size=96),
    "icnet_resnet50_citys": _seg("icnet_resnet50_citys", 96, 96, base_size=96, crop_size=96),
    "fastscnn_citys": _seg("fastscnn_citys", 96, 96, base_size=96, crop_size=96),
    "danet_resnet50_citys": _seg("danet_resnet50_citys", 64, 96),
    "deeplab_resnest50_ade": _seg("deeplab_resnest50_ade", 64, 96)._replace(trains=False),
    # pose, depth, tracking
    **{name: Entry(name, (1, 3, 64, 64), {"pretrained_base": False}) for name in (
        "simple_pose_resnet18_v1b", "mobile_pose_resnet18_v1b", "mobile_pose_mobilenet1.0",
        "mobile_pose_mobilenetv3_small", "alpha_pose_resnet101_v1b_coco")},
    **{name: Entry(name, (1, 3, 128, 128), {"pretrained_base": False}) for name in (
        "center_net_resnet18_v1b_voc", "center_net_mobilenetv3_small_duc_voc", "center_net_dla34_voc")},
    # a video
    "c3d_kinetics400": Entry("c3d_kinetics400", (1, 3, 16, 112, 112), {"pretrained_base": False, "nclass": 5}),
}
ENTRIES = {**NAMED, **FURTHER}


def write_model(name: str, folder: Path, entries: Mapping[str, Entry] = ENTRIES) -> ZooModel:
    """Write a model of :data:`ENTRIES` into a folder, in MXNet's format."""
    entry = entries[name]
    mx.random.seed(0)
    return write_network(build(entry), entry.shape, folder / name, trains=entry.trains)


def build(entry: Entry) -> mx.gluon.HybridBlock:
    """Return the network of an entry, without weights."""
    import gluoncv

    zoo, _, name = entry.name.rpartition(":")
    if zoo == "mxnet":
        return mx.gluon.model_zoo.vision.get_model(name, **entry.arguments)
    return gluoncv.model_zoo.get_model(name, pretrained=False, **entry.arguments)


def write_network(net: mx.gluon.HybridBlock, shape: tuple[int, ...], path: Path, *, trains: bool = True) -> ZooModel:
    """Write a network with random weights as ``path-symbol.json`` and ``path-0000.params``."""
    random = np.random.RandomState(0)
    data = mx.nd.array(random.normal(size=shape))
    net.initialize(mx.init.Xavier("gaussian", "in", 2), force_reinit=True)
    net(data)  # the sizes of the parameters follow from the input
    if trains:
        set_statistics(net, mx.nd.array(random.normal(size=(max(4, shape[0]), *shape[1:]))), random)
    net.hybridize()
    outputs = _flat(net(data))
    net.export(str(path))
    return ZooModel(Path(f"{path}-symbol.json"), Path(f"{path}-0000.params"), data.asnumpy(),
                    [output.asnumpy() for output in outputs])


def set_statistics(net: mx.gluon.HybridBlock, data: mx.nd.NDArray, random: np.random.RandomState) -> None:
    """Give the batch norms of a network the statistics of a batch, and random scales and shifts."""
    norms: list[mx.gluon.nn.BatchNorm] = []
    net.apply(lambda block: norms.append(block) if isinstance(block, mx.gluon.nn.BatchNorm) else None)
    momenta = [norm._kwargs["momentum"] for norm in norms]
    for norm in norms:
        norm._kwargs["momentum"] = 0.0
        norm.gamma.set_data(mx.nd.array(random.uniform(0.5, 1.5, norm.gamma.shape)))
        norm.beta.set_data(mx.nd.array(random.normal(0, 0.1, norm.beta.shape)))
    with mx.autograd.record():
        outputs = _flat(net(data))
    if norms:
        mx.autograd.backward(outputs)  # which updates the statistics
    mx.nd.waitall()
    for norm, momentum in zip(norms, momenta):
        norm._kwargs["momentum"] = momentum
        norm.running_var.set_data(norm.running_var.data() + 0.1)  # few values may be almost equal


def age(symbol: Path, version: str) -> None:
    """Rewrite a symbol file as an older MXNet wrote it.

    Args:
        symbol: the file.
        version: ``'0.8'`` (arguments in ``param``, attributes of the user in ``attr``, two numbers in an input) or
            ``'1.0'`` (all in ``attr``).
    """
    content = json.loads(symbol.read_text())
    for node in content["nodes"]:
        node["attr" if version == "1.0" or node["op"] == "null" else "param"] = node.pop("attrs", {})
        if version == "0.8":
            node["inputs"] = [entry[:2] for entry in node["inputs"]]
    if version == "0.8":
        content["heads"] = [head[:2] for head in content["heads"]]
        del content["attrs"], content["node_row_ptr"]
    symbol.write_text(json.dumps(content))


def _flat(outputs: Any) -> list[mx.nd.NDArray]:
    if isinstance(outputs, mx.nd.NDArray):
        return [outputs]
    return [one for output in outputs for one in _flat(output)]
