"""A network whose convolutions compute in bfloat16, for inference on a CPU that is good at it."""
from __future__ import annotations

import json
from typing import Optional

import mxnet as mx

# What stands between two layers and takes what it is given. All others get float32 or, of several inputs, the widest.
_EITHER = {"BatchNorm", "Pooling", "relu"}


def in_bfloat16(net, ctx: Optional[mx.Context] = None) -> mx.gluon.SymbolBlock:
    """A copy of a network whose convolutions and fully connected layers read and write bfloat16, for inference.

    bfloat16 has the range of float32 and two to three digits: logits move by about a hundredth of their largest.
    Everything but these layers and the batch norm, ReLU and pooling behind them is float32, the outputs too. (With its
    own lists MXNet's ``amp.convert_hybrid_block`` concatenates maps of two types, which fails.)

    x: (N, 3, H, W) float32, of any size -> the network's outputs; where it has one, that one.

    Args:
        net: initialised; it stays as it is.
        ctx: where the copy is to run; None: the CPU.
    """
    from mxnet.contrib.amp import convert_model
    from mxnet.contrib.amp.lists import symbol_bf16 as lists

    symbol = mx.sym.Group(list(net(mx.sym.var("data"))))
    nodes = json.loads(symbol.tojson())["nodes"]
    wide = set(lists.FP32_FUNCS) | {node["op"] for node in nodes} & set(lists.BF16_FP32_FUNCS)
    narrow = set(_EITHER)
    if any(node["op"] == "BatchNorm" and nodes[node["inputs"][0][0]]["op"] == "Concat" for node in nodes):
        narrow.remove("BatchNorm")  # as in DenseNets, where MXNet's converter loses track of the types
    values = {p.name: p.data().as_in_context(ctx or mx.cpu()) for p in net.collect_params().values()}
    symbol, arguments, statistics = convert_model(
        symbol, {name: values[name] for name in symbol.list_arguments() if name != "data"},
        {name: values[name] for name in symbol.list_auxiliary_states()}, target_dtype="bfloat16",
        fp32_ops=sorted(wide - narrow - set(lists.WIDEST_TYPE_CASTS)), conditional_fp32_ops=[])
    copy = mx.gluon.SymbolBlock(symbol, mx.sym.var("data", dtype="float32"))
    copy.collect_params().load_dict({**{f"arg:{name}": value for name, value in arguments.items()},
                                     **{f"aux:{name}": value for name, value in statistics.items()}},
                                    ctx=ctx or mx.cpu())
    return copy
