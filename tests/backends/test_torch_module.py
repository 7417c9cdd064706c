"""Converted modules in PyTorch: compilation, copies, files, other types and memory layouts."""
import copy
import io
import re
import shutil

import mxnet as mx
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mxnetseg import get_model, to_torch  # noqa: E402

NETWORKS = {"fcn": {"backbone": "resnet18"}, "fastscnn": {}, "segformer": {}, "pspnet": {"backbone": "resnet18"},
            "swiftnet": {"backbone": "resnet18"}, "ocrnet": {"width": 18, "channels": 64}}
QUICK = ("fcn",)


@pytest.fixture(scope="module", params=[pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
                                        for name in NETWORKS])
def module(request):
    mx.random.seed(0)
    return main_output(to_torch(get_model(request.param, nclass=5, **NETWORKS[request.param])))


def main_output(module):
    """Leave out the outputs after the first (OCRNet's coarse logits), so that a module returns a tensor."""
    output = next(node for node in module.graph.nodes if node.op == "output")
    if isinstance(output.args[0], (tuple, list)):
        output.args = output.args[0][:1]
        module.graph.eliminate_dead_code()
        module.recompile()
    return module


def image(*size, batch=1):
    return torch.from_numpy(np.random.RandomState(0).normal(size=(batch, 3, *size)).astype("float32"))


def relative(got, wanted):
    return float((got.float() - wanted).abs().max() / wanted.abs().max())


@pytest.fixture(autouse=True)
def no_graphs_of_other_tests():
    torch.compiler.reset()


def test_dynamo_captures_one_graph_for_all_sizes(module):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend=backend)
    with torch.no_grad():
        for size in ((64, 96), (97, 145), (65, 129), (80, 112)):
            assert relative(compiled(image(*size)), module(image(*size))) <= 1e-6
    assert len(graphs) <= 2  # one more for the first size, if its remainders differ


@pytest.mark.slow
def test_aot_autograd_captures_the_training_step(module):
    module = copy.deepcopy(module).train()
    for layer in module.modules():
        if type(layer).__name__ == "Dropout":
            layer.p = 0.0
    twin = copy.deepcopy(module)
    compiled = torch.compile(twin, fullgraph=True, backend="aot_eager")
    x = image(64, 96, batch=2)
    (module(x) ** 2).mean().backward()
    (compiled(x) ** 2).mean().backward()
    largest = max(float(p.grad.abs().max()) for p in module.parameters() if p.grad is not None)
    for (name, one), other in zip(module.named_parameters(), twin.parameters()):
        if one.grad is not None:
            assert float((one.grad - other.grad).abs().max()) <= 1e-5 * largest, name
    for one, other in zip(module.buffers(), twin.buffers()):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # inductor's own
def test_inductor_gives_the_same_outputs(module):
    with torch.no_grad():
        compiled = torch.compile(module, fullgraph=True)
        assert relative(compiled(image(64, 96)), module(image(64, 96))) <= 1e-5


def test_channels_last_is_kept_and_gives_the_same_outputs(module):
    x = image(65, 97)
    last = copy.deepcopy(module).to(memory_format=torch.channels_last)
    with torch.no_grad():
        assert relative(last(x.contiguous(memory_format=torch.channels_last)), module(x)) <= 1e-5
    weights = [p for p in last.parameters() if p.dim() == 4 and min(p.shape[1:]) > 1]
    assert weights and all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)


def test_bfloat16_stays_close(module):
    half = copy.deepcopy(module).to(torch.bfloat16)
    with torch.no_grad():
        got, wanted = half(image(64, 96).to(torch.bfloat16)), module(image(64, 96))
    assert got.shape == wanted.shape and bool(torch.isfinite(got).all())
    assert float((got.float() - wanted).norm() / wanted.norm()) <= 0.1


def test_copies_and_saved_modules_compute_the_same(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    x = image(33, 50)
    with torch.no_grad():
        wanted = module(x)
        for other in (copy.deepcopy(module), torch.load(file, weights_only=False)):
            assert torch.equal(other(x), wanted)
            assert list(other.state_dict()) == list(module.state_dict())


def test_a_copy_shares_no_parameters(module):
    x = image(33, 50)
    with torch.no_grad():
        wanted = module(x)
        for parameter in copy.deepcopy(module).parameters():
            parameter.zero_()
        assert torch.equal(module(x), wanted)


def test_the_printed_code_reads_as_pytorch(module):
    lines = module.code.splitlines()
    assert any(re.search(r"torch\.conv2d\(.*\w+_weight", line) for line in lines)
    assert any("self.backbone." in line and ".weight" in line for line in lines)
    assert max(map(len, lines)) < 300
    assert not re.search(r"<function|lambda| at 0x", module.code)
