"""Networks in PyTorch, on the CPU, NVIDIA's and AMD's GPUs (cuda) and Apple's (mps)."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.nn import functional as F

from .._precisions import PrecisionChoice
from .._processor import multiplies_bfloat16
from .package import NetworkPackage
from .runtime import HostRuntime, StoredNetwork, one_device
from .torch_devices import find_devices
from .torch_graph import to_torch

# operators that compute in half precision; all others stay float32, as in the other backends
_MULTIPLICATIONS = (F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d,
                    torch.conv1d, torch.conv2d, torch.conv3d, torch.conv_transpose1d, torch.conv_transpose2d,
                    torch.conv_transpose3d, F.linear)
_HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class TorchRuntime(HostRuntime):
    """A network in PyTorch."""

    name = "torch"

    def __init__(self, stored: StoredNetwork, device: str, precision: str):
        super().__init__(stored, device, precision)
        module = stored.model.eval()
        if precision in _HALVES:
            to_half(module, _HALVES[precision])
        self._device = torch.device(device)
        self._module = module.to(self._device, memory_format=torch.channels_last)
        self._statistics = [torch.tensor(np.array(values).reshape(1, 3, 1, 1), device=self._device)
                            for values in (self._scale, self._shift)]

    @classmethod
    def convert(cls, package: NetworkPackage) -> StoredNetwork:
        """Return a network of MXNet as a module of PyTorch."""
        return StoredNetwork(package.record, to_torch(package.graph, package.arrays, inputs=package.inputs))

    @classmethod
    def choose_device(cls, ctx: Sequence[str] | None) -> str:
        one_device(ctx, cls.name)
        return str(find_devices(ctx)[0])

    @classmethod
    def precisions(cls, device: str) -> tuple[tuple[str, ...], PrecisionChoice]:
        if device == "cpu":
            auto = PrecisionChoice("bfloat16", "the processor multiplies bfloat16") if multiplies_bfloat16() else \
                PrecisionChoice("float32", "the format that the CPU computes fastest")
            return ("float32", "bfloat16"), auto
        if device == "mps":
            return ("float32", "float16"), PrecisionChoice("float16", "a GPU")
        offered = ("float32", "float16", *["bfloat16"] * torch.cuda.is_bf16_supported())
        return offered, PrecisionChoice("float16", "a GPU")

    def total_memory(self) -> int:
        if self._device.type == "cuda":
            return torch.cuda.get_device_properties(self._device).total_memory
        return super().total_memory()

    def logits(self, images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return self._logits(images).cpu().numpy()

    def class_maps(self, images: np.ndarray, device: Any) -> np.ndarray:
        with torch.inference_mode():
            return self._logits(images).argmax(1).to(torch.uint8).cpu().numpy()

    def _logits(self, images: np.ndarray) -> torch.Tensor:
        """Return float32 logits (N, K, H, W) on the device. Only uint8 pixels are transferred to it."""
        scale, shift = self._statistics
        x = torch.from_numpy(np.ascontiguousarray(images)).to(self._device).permute(0, 3, 1, 2)
        y = self._module(x.float() * scale + shift)
        return (y[0] if isinstance(y, tuple) else y).float()


def to_half(module: fx.GraphModule, dtype: torch.dtype) -> None:
    """Let the convolutions and dense layers of a module compute in half precision; their results are float32 again.

    Autocast would also convert the matrix products that resize maps, and positions need float32.
    """
    graph = module.graph
    for node in [node for node in graph.nodes if node.op == "call_function" and node.target in _MULTIPLICATIONS]:
        for tensor in dict.fromkeys(node.args[:3]):
            if not isinstance(tensor, fx.Node):
                continue
            own = tensor.op == "get_attr" and all(user.target in _MULTIPLICATIONS for user in tensor.users)
            if own:
                parameter = module.get_parameter(tensor.target)
                parameter.data = parameter.data.to(dtype)
                continue
            with graph.inserting_before(node):
                node.replace_input_with(tensor, graph.call_method("to", (tensor, dtype)))
        with graph.inserting_after(node):
            float32 = graph.call_method("float", (node,))
        node.replace_all_uses_with(float32, delete_user_cb=lambda user, float32=float32: user is not float32)
    module.recompile()
