"""Convolutions in bfloat16 on a processor: values and gradients, against float64."""
import shutil

import pytest

torch = pytest.importorskip("torch")

from mxnetseg.backends import torch_convolutions  # noqa: E402

# (operator, input channels, filters, groups, stride, dilation)
CASES = [("Convolution", *case) for case in (
    (3, 32, 1, 2, 1), (32, 48, 1, 1, 1), (32, 32, 32, 1, 1), (32, 32, 32, 2, 1), (40, 40, 5, 1, 1),  # not dilated
    (32, 32, 32, 1, 2), (32, 32, 32, 1, 6), (20, 20, 20, 1, 3), (32, 32, 32, 2, 2), (40, 40, 5, 1, 2),  # in groups
    (32, 48, 1, 1, 6), (64, 19, 1, 1, 3), (20, 64, 1, 1, 2), (64, 64, 4, 1, 2))
] + [("Deconvolution", *case) for case in (
    (32, 19, 1, 2, 1), (32, 32, 32, 2, 1), (64, 19, 1, 1, 2), (32, 32, 32, 1, 2), (64, 48, 1, 1, 2))]


def operate(operator, data, weight, filters, groups, stride, dilation):
    function = getattr(torch_convolutions, operator.lower())
    return function(data, weight, kernel=(3, 3), stride=(stride, stride), pad=(dilation, dilation),
                    dilate=(dilation, dilation), num_filter=filters, num_group=groups, no_bias=True)


def random_inputs(operator, channels, filters, groups, size=(33, 41)):
    generator = torch.Generator().manual_seed(0)
    shape = (filters, channels // groups) if operator == "Convolution" else (channels, filters // groups)
    return [torch.randn(shape, generator=generator).bfloat16() for shape in ((2, channels, *size), (*shape, 3, 3))]


def value_and_gradients(function, inputs):
    leaves = [x.detach().clone(memory_format=torch.preserve_format).requires_grad_() for x in inputs]
    value = function(*leaves)
    value.backward(value.detach())
    return [x.double() for x in (value.detach(), *(leaf.grad for leaf in leaves))]


def assert_close(found, expected, case):
    for name, a, b in zip(("value", "gradient of the data", "gradient of the weight"), found, expected):
        assert bool(a.isfinite().all()), f"{name} of {case}"
        assert float((a - b).abs().max() / b.abs().max()) < 0.02, f"{name} of {case}"


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_in_bfloat16(case, memory_format):
    operator, channels, filters, groups, *geometry = case
    inputs = random_inputs(operator, channels, filters, groups)

    def function(data, weight):
        return operate(operator, data, weight, filters, groups, *geometry)
    expected = value_and_gradients(function, [x.double() for x in inputs])
    data, weight = inputs[0].contiguous(memory_format=memory_format), inputs[1].float()
    with torch.autocast("cpu", torch.bfloat16):
        found = value_and_gradients(function, [data, weight])
    assert_close(found, expected, case)
    # and of a module that was cast as a whole
    assert_close(value_and_gradients(function, [data, inputs[1]]), expected, case)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # inductor's own
@pytest.mark.parametrize("case", [("Convolution", 32, 32, 32, 1, 2), ("Convolution", 20, 64, 1, 1, 2)], ids=str)
def test_gradients_of_compiled_convolutions(case):
    operator, channels, filters, groups, *geometry = case
    inputs = random_inputs(operator, channels, filters, groups)

    def function(data, weight):
        return operate(operator, data.relu(), weight, filters, groups, *geometry).relu()
    expected = value_and_gradients(function, [x.double() for x in inputs])
    with torch.autocast("cpu", torch.bfloat16):
        found = value_and_gradients(torch.compile(function, dynamic=False, fullgraph=True), [
            inputs[0].contiguous(memory_format=torch.channels_last), inputs[1].float()])
    assert_close(found, expected, case)


def test_only_unsafe_convolutions_leave_bfloat16():
    data = torch.zeros(1, 32, 8, 8, dtype=torch.bfloat16)
    kernels = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is torch.ops.aten.convolution.default:
                kernels.append(args[1].dtype)
            return function(*args, **(kwargs or {}))
    with Watch():
        for groups, dilation in ((1, 2), (32, 1), (32, 2)):
            weight = torch.zeros(32, 32 // groups, 3, 3, dtype=torch.bfloat16)
            assert operate("Convolution", data, weight, 32, groups, 1, dilation).dtype is torch.bfloat16
            with torch.no_grad():
                operate("Convolution", data, weight, 32, groups, 1, dilation)
        # without half precision there is nothing to avoid, and torch.export needs no autocast
        operate("Convolution", data.float(), weight.float(), 32, 32, 1, 2)
        with torch.autocast("cpu", torch.bfloat16):
            operate("Convolution", data.float(), weight.float(), 32, 32, 1, 2)
    half, single = torch.bfloat16, torch.float32
    assert kernels == [half, half, half, half, single, half, single, single]


def test_one_weight_has_no_dilation(monkeypatch):
    monkeypatch.setattr(torch_convolutions, "dilated_convolution", None)  # which would cost time here
    data, weight = torch.rand(1, 3, 5, 6), torch.rand(4, 3, 1, 1)
    found = torch_convolutions.convolution(data, weight, kernel=(1, 1), dilate=(4, 4), num_filter=4, no_bias=True)
    torch.testing.assert_close(found, torch.einsum("nchw,fc->nfhw", data, weight[..., 0, 0]))
