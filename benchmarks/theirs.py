"""One competitor in PyTorch, run by a Python with PyTorch: ``python theirs.py TASK``, where TASK is JSON.

The networks are written from the same papers with the same layers as ours, so both sides have the same number of
parameters. ``form``: ``eager``, ``channels_last``, ``frozen`` (TorchScript with folded weights; in float32 also fused
by oneDNN where that works) or ``compiled`` (Inductor; for inference with folded weights). ``precision``: ``float32``
or ``bfloat16``. For inference, the whole network is cast once to bfloat16, which is never slower than autocast;
training uses autocast.

Of mxnetseg's code this file imports only serve.py beside it, because that Python need not have mxnetseg.
"""
from __future__ import annotations

import json
import sys
import time

import torch
import torch.nn.functional as F
from serve import resident_mib, serve  # beside this file
from torch import nn


def conv_norm(inputs, outputs, kernel=3, stride=1, dilation=1, act="relu"):
    acts = {"relu": [nn.ReLU(inplace=True)], "sigmoid": [nn.Sigmoid()], None: []}[act]
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, dilation * (kernel - 1) // 2, dilation, bias=False),
                         nn.BatchNorm2d(outputs), *acts)


def enlarge(x, like):
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)


class Block(nn.Module):
    """Residual block: two 3x3 convolutions, or 1x1, 3x3, 1x1 for ``expansion`` 4."""

    def __init__(self, inputs, width, expansion, stride, first, dilation):
        super().__init__()
        outputs = width * expansion
        if expansion == 1:
            self.body = nn.Sequential(conv_norm(inputs, width, 3, stride, first),
                                      conv_norm(width, width, 3, 1, dilation, None))
        else:
            self.body = nn.Sequential(conv_norm(inputs, width, 1), conv_norm(width, width, 3, stride, first),
                                      conv_norm(width, outputs, 1, act=None))
        self.shortcut = conv_norm(inputs, outputs, 1, stride, act=None) if stride > 1 or inputs != outputs else None

    def forward(self, x):
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return F.relu(self.body(x) + shortcut, inplace=True)


class ResNet(nn.Module):
    """ResNet with four stages; ``deep``: a stem of three 3x3 convolutions, 64-64-128 (v1s)."""

    def __init__(self, depths, expansion, deep, output_stride):
        super().__init__()
        self.stem = nn.Sequential(conv_norm(3, 64, 3, 2), conv_norm(64, 64), conv_norm(64, 128)) if deep \
            else conv_norm(3, 64, 7, 2)
        self.stages, inputs, reduction, dilation = nn.ModuleList(), 128 if deep else 64, 4, 1
        for i, depth in enumerate(depths):
            stride, first = (1 if i == 0 else 2), dilation
            if i and reduction == output_stride:
                stride, dilation = 1, dilation * 2
            reduction *= stride
            blocks = []
            for k in range(depth):
                blocks.append(Block(inputs, 64 * 2 ** i, expansion, stride if k == 0 else 1,
                                    first if k == 0 else dilation, dilation))
                inputs = 64 * 2 ** i * expansion
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, x):
        x = F.max_pool2d(self.stem(x), 3, 2, 1)
        taps = []
        for stage in self.stages:
            x = stage(x)
            taps.append(x)
        return taps


def resnet18(output_stride):
    return ResNet((2, 2, 2, 2), 1, False, output_stride)


def resnet50(output_stride):
    return ResNet((3, 4, 6, 3), 4, True, output_stride)


def head(inputs, classes, drop=0.1):
    width = min(inputs, 256)
    return nn.Sequential(conv_norm(inputs, width), nn.Dropout(drop), nn.Conv2d(width, classes, 1))


class GlobalMean(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = conv_norm(inputs, outputs, 1)

    def forward(self, x):
        return self.conv(F.adaptive_avg_pool2d(x, 1)).expand(-1, -1, x.shape[2], x.shape[3])


class FCN(nn.Module):
    def __init__(self, backbone, classes):
        super().__init__()
        self.backbone, self.head = backbone, head(512, classes)

    def forward(self, x):
        return enlarge(self.head(self.backbone(x)[3]), x)


class Refine(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv, self.gate = conv_norm(inputs, outputs), conv_norm(outputs, outputs, 1, act="sigmoid")

    def forward(self, x):
        x = self.conv(x)
        return x * self.gate(F.adaptive_avg_pool2d(x, 1))


class BiSeNet(nn.Module):
    def __init__(self, backbone, classes):
        super().__init__()
        self.backbone = backbone
        self.spatial = nn.Sequential(conv_norm(3, 64, 7, 2), conv_norm(64, 64, 3, 2), conv_norm(64, 64, 3, 2),
                                     conv_norm(64, 128, 1))
        self.mean, self.refine4, self.refine3 = GlobalMean(512, 128), Refine(512, 128), Refine(256, 128)
        self.proj = conv_norm(128, 128)
        self.join, self.gate1, self.gate2 = (conv_norm(256, 256, 1), conv_norm(256, 256, 1),
                                             conv_norm(256, 256, 1, act="sigmoid"))
        self.head = head(256, classes, 0.0)

    def forward(self, x):
        spatial = self.spatial(x)
        taps = self.backbone(x)
        context = [self.mean(taps[3]), self.refine4(taps[3]), self.refine3(taps[2])]
        context = self.proj(sum(enlarge(c, spatial) for c in context))
        joined = self.join(torch.cat([spatial, context], 1))
        joined = joined + joined * self.gate2(self.gate1(F.adaptive_avg_pool2d(joined, 1)))
        return enlarge(self.head(joined), x)


class PSPNet(nn.Module):
    def __init__(self, backbone, classes):
        super().__init__()
        self.backbone, self.head = backbone, head(4096, classes)
        self.branches = nn.ModuleList(conv_norm(2048, 512, 1) for _ in range(4))

    def forward(self, x):
        c4 = self.backbone(x)[3]
        pooled = [enlarge(branch(F.adaptive_avg_pool2d(c4, cells)), c4)
                  for cells, branch in zip((1, 2, 3, 6), self.branches)]
        return enlarge(self.head(torch.cat([c4, *pooled], 1)), x)


class DeepLabv3Plus(nn.Module):
    def __init__(self, backbone, classes):
        super().__init__()
        self.backbone = backbone
        self.branches = nn.ModuleList([conv_norm(2048, 256, 1), *(conv_norm(2048, 256, 3, 1, rate) for rate in
                                                                 (12, 24, 36)), GlobalMean(2048, 256)])
        self.proj, self.low = nn.Sequential(conv_norm(1280, 256, 1), nn.Dropout(0.5)), conv_norm(256, 48)
        self.fuse, self.head = nn.Sequential(conv_norm(304, 256), nn.Dropout(0.5)), head(256, classes)

    def forward(self, x):
        taps = self.backbone(x)
        context = self.proj(torch.cat([branch(taps[3]) for branch in self.branches], 1))
        low = self.low(taps[0])
        return enlarge(self.head(self.fuse(torch.cat([low, enlarge(context, low)], 1))), x)


def edges_aligned(x, like):
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


def before_conv(inputs, outputs, kernel=1, pool=None):
    return nn.Sequential(*([pool] if pool else []), nn.BatchNorm2d(inputs), nn.ReLU(),
                         nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False))


class Plain(nn.Module):
    """Residual block with or without a ReLU after the sum."""

    def __init__(self, inputs, width, stride=1, act=True, bottleneck=False):
        super().__init__()
        self.act, outputs = act, 2 * width if bottleneck else width
        self.body = nn.Sequential(conv_norm(inputs, width, 1), conv_norm(width, width, 3, stride),
                                  conv_norm(width, outputs, 1, act=None)) if bottleneck else \
            nn.Sequential(conv_norm(inputs, width, 3, stride), conv_norm(width, width, act=None))
        self.shortcut = conv_norm(inputs, outputs, 1, stride, act=None) if stride > 1 or inputs != outputs else None

    def forward(self, x):
        y = self.body(x) + (x if self.shortcut is None else self.shortcut(x))
        return F.relu(y) if self.act else y


class DAPPM(nn.Module):
    def __init__(self, inputs, width, outputs):
        super().__init__()
        pools = [None, nn.AvgPool2d(5, 2, 2), nn.AvgPool2d(9, 4, 4), nn.AvgPool2d(17, 8, 8), nn.AdaptiveAvgPool2d(1)]
        self.scales = nn.ModuleList(before_conv(inputs, width, pool=pool) for pool in pools)
        self.process = nn.ModuleList(before_conv(width, width, 3) for _ in range(4))
        self.compression, self.shortcut = before_conv(5 * width, outputs), before_conv(inputs, outputs)

    def forward(self, x):
        found = [self.scales[0](x)]
        for scale, process in zip(self.scales[1:], self.process):
            found.append(process(edges_aligned(scale(x), x) + found[-1]))
        return self.compression(torch.cat(found, 1)) + self.shortcut(x)


class DDRNet(nn.Module):
    """DDRNet-23-slim, without the auxiliary head."""

    def __init__(self, backbone, classes, c=32):
        super().__init__()

        def two(inputs, width, stride=1):
            return nn.Sequential(Plain(inputs, width, stride), Plain(width, width, act=False))
        self.stem = nn.Sequential(nn.Conv2d(3, c, 3, 2, 1), nn.BatchNorm2d(c), nn.ReLU(),
                                  nn.Conv2d(c, c, 3, 2, 1), nn.BatchNorm2d(c), nn.ReLU(),
                                  two(c, c), nn.ReLU(), two(c, 2 * c, 2), nn.ReLU())
        self.low3, self.low4, self.low5 = (two(2 * c, 4 * c, 2), two(4 * c, 8 * c, 2),
                                           Plain(8 * c, 8 * c, 2, False, True))
        self.high3, self.high4, self.high5 = (two(2 * c, 2 * c), two(2 * c, 2 * c),
                                              Plain(2 * c, 2 * c, 1, False, True))
        self.up3, self.up4 = conv_norm(4 * c, 2 * c, 1, act=None), conv_norm(8 * c, 2 * c, 1, act=None)
        self.down3 = conv_norm(2 * c, 4 * c, 3, 2, act=None)
        self.down4 = nn.Sequential(conv_norm(2 * c, 4 * c, 3, 2), conv_norm(4 * c, 8 * c, 3, 2, act=None))
        self.spp = DAPPM(16 * c, 128, 4 * c)
        self.head = nn.Sequential(before_conv(4 * c, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, classes, 1))

    def forward(self, x):
        y = self.stem(x)
        high, low = self.high3(y), self.low3(y)
        high, low = high + edges_aligned(self.up3(F.relu(low)), high), low + self.down3(F.relu(high))
        high, low = self.high4(F.relu(high)), self.low4(F.relu(low))
        high, low = high + edges_aligned(self.up4(F.relu(low)), high), low + self.down4(F.relu(high))
        high, low = self.high5(F.relu(high)), self.low5(F.relu(low))
        return edges_aligned(self.head(high + edges_aligned(self.spp(low), high)), x)


NETWORKS = {"fcn": FCN, "bisenet": BiSeNet, "pspnet": PSPNet, "deeplabv3plus": DeepLabv3Plus, "ddrnet": DDRNet}
BACKBONES = {"resnet18": resnet18, "resnet50": resnet50, None: lambda output_stride: None}


def main() -> None:
    imported = resident_mib()
    task = json.loads(sys.argv[1])
    torch.manual_seed(0)
    net = NETWORKS[task["network"]](BACKBONES[task["backbone"]](task["output_stride"]), 19)
    x = torch.randn(task["batch"], 3, *task["size"])
    parameters = count_parameters(net)
    if task["form"] != "eager":
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    began = time.perf_counter()
    run = (inference if task["do"] == "infer" else training)(net, x, task)
    for _ in range(task["warm_up"]):
        run()
    serve({"library": f"torch {torch.__version__}", "parameters": parameters, "imported_mib": imported,
           "warm_up_s": round(time.perf_counter() - began, 2)}, run, hot=True)


def count_parameters(net) -> int:
    """Return the number of parameters, running statistics included, as mxnetseg counts them."""
    return sum(p.numel() for p in net.parameters()) + sum(
        b.numel() for name, b in net.named_buffers() if not name.endswith("num_batches_tracked"))


def inference(net, x, task):
    net.eval()
    if task["precision"] == "bfloat16":
        net, x = net.to(torch.bfloat16), x.to(torch.bfloat16)
    if task["form"] == "frozen":
        net = freeze(net, x, task["precision"])
    elif task["form"] == "compiled":
        from torch._inductor import config

        config.freezing = True
        net = torch.compile(net)

    def run():
        with torch.no_grad():
            net(x)
    return run


def freeze(net, x, precision):
    """Freeze a network with TorchScript, fused by oneDNN where that works.

    In bfloat16 the fusion gains nothing on some networks and fails on others. In float32 it fails on DDRNet, when the
    graph is optimised in the second run: "Cannot access data pointer of Tensor that doesn't have storage".
    """
    for fusion in (True, False) if precision == "float32" else (False,):
        torch.jit.enable_onednn_fusion(fusion)
        try:
            with torch.no_grad():
                graph = torch.jit.freeze(torch.jit.trace(net, x, check_trace=False))
                for _ in range(3):
                    graph(x)
            return graph
        except RuntimeError:
            if not fusion:
                raise


def training(net, x, task):
    label = torch.randint(0, 19, (task["batch"], *task["size"]))
    step = training_step(net, task)

    def run():
        step(x, label)
    return run


def training_step(net, task):
    """Return a step of SGD with momentum: a function of images and labels that returns the loss as a number."""
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), 1e-3, momentum=0.9, weight_decay=1e-4, fused=True)
    forward = torch.compile(net) if task["form"] == "compiled" else net

    def step(x, label) -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=task["precision"] == "bfloat16"):
            logits = forward(x)
        loss = F.cross_entropy(logits.float(), label, ignore_index=255)
        loss.backward()
        optimizer.step()
        return loss.item()
    return step


if __name__ == "__main__":
    main()
