"""Networks of the library and exported files in PyTorch, against MXNet."""
import copy
import pickle
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch_steps as steps  # noqa: E402

from mxnetseg import get_model, to_torch  # noqa: E402
from mxnetseg.errors import CheckpointError, UsageError  # noqa: E402
from mxnetseg.graph.params_file import read_arrays, write_arrays  # noqa: E402
from mxnetseg.models import list_models  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SIZES = (128, 160), (97, 145), (65, 257)
QUICK = ("fastscnn", "fcn", "bisenet", "icnet", "segformer", "swiftnet")
# Random weights make these chaotic: positions of samples and attention are steep functions of the features, so that
# MXNet's own float32 and float64 differ by up to 1.5e-3, as PyTorch's do. They are compared in float64.
CHAOTIC = ("alignseg", "attanet", "canetv2", "ocrnet", "ovenet", "sfnet")


LIFE = steps.life()
SUBJECTS = [subject for subject in LIFE.subjects()
            if subject[0] != "fcn" or subject[1]["backbone"] in ("resnet18", "resnest14", "densenet121", "vit_reduced")]


def parameters(names):
    for name, arguments in SUBJECTS:
        quick = name in names and not {"variant", "form"} & set(arguments) and (
            name != "fcn" or arguments["backbone"] == "resnet18")
        yield pytest.param((name, arguments), id="-".join([name, *map(str, arguments.values())]),
                           marks=() if quick else pytest.mark.slow)


def outputs(module, x):
    got = module(torch.from_numpy(x))
    return got if isinstance(got, tuple) else (got,)


def test_every_network_is_tried():
    assert {name for name, _ in SUBJECTS} == set(list_models())


@pytest.mark.parametrize("subject", parameters(QUICK))
def test_outputs_equal_those_of_mxnet_at_any_size(subject):
    mx.random.seed(0)
    net = LIFE.build(subject)
    module = to_torch(net)
    # of PIDNet-L, MXNet's float32 is 3e-5 from float64, and PyTorch's 5e-6
    is_chaotic = subject[0] in CHAOTIC or subject[1].get("variant") == "l"
    module = steps.in_float64(module) if is_chaotic else module
    for size in SIZES:
        x = LIFE.image(*size).asnumpy()
        with torch.no_grad():
            got = outputs(module, x.astype("float64") if is_chaotic else x)
        wanted = steps.mxnet_outputs(net, x) if is_chaotic else [output.asnumpy() for output in net(mx.nd.array(x))]
        assert len(got) == len(wanted)
        for one, other in zip(got, wanted):
            assert one.shape == other.shape
            assert np.abs(one.numpy() - other).max() <= (1e-9 if is_chaotic else 1e-5) * np.abs(other).max()


@pytest.mark.parametrize("subject", parameters(("fcn",)))
def test_parameters_have_the_structural_names(subject):
    net = LIFE.build(subject)
    module = to_torch(net)
    trained = dict(module.named_parameters())
    free = {name: name if name in module.state_dict() else name.replace("half.", "half_.")
            for name in net.named_parameters()}
    # a parameter that no output depends on is left out
    assert {free[name] for name in net.named_parameters() if free[name] in module.state_dict()} == set(
        module.state_dict())
    for name, parameter in net.named_parameters().items():
        if free[name] in module.state_dict():
            np.testing.assert_array_equal(module.state_dict()[free[name]].numpy(), parameter.data().asnumpy())
            assert (free[name] in trained and trained[free[name]].requires_grad) == (parameter.grad_req != "null")


def test_a_training_step_has_mxnets_gradients_and_running_statistics():
    # With these weights no input of a ReLU is zero up to rounding. Where one is, its gradient jumps, and PyTorch's own
    # float32 and float64 differ by up to 0.09.
    assert largest_difference_of_a_step("fcn", seed=2) <= 1e-4


def largest_difference_of_a_step(name, seed):
    mx.random.seed(seed)
    net = get_model(name, backbone="resnet18", nclass=5, aux=True)
    module = to_torch(net).train()
    for layer in module.modules():
        if type(layer).__name__ == "Dropout":
            layer.p = 0.0

    def without_dropout(block):
        if isinstance(block, mx.gluon.nn.Dropout):
            block._rate = 0
    net.apply(without_dropout)

    x = LIFE.image(48, 65, batch=2)
    with mx.autograd.record():
        loss = sum((output ** 2).mean() for output in net(x))
    loss.backward()
    sum((output ** 2).mean() for output in outputs(module, x.asnumpy())).backward()

    state, trained = module.state_dict(), dict(module.named_parameters())
    scale = max(np.abs(p.grad().asnumpy()).max() for p in net.named_parameters().values() if p.grad_req != "null")
    differences = []
    for key, parameter in net.named_parameters().items():
        if parameter.grad_req != "null":
            gradient, other = trained[key].grad.numpy(), parameter.grad().asnumpy()
            differences.append(np.abs(gradient - other).max() / max(np.abs(other).max(), 1e-3 * scale))
        elif key in state:
            other = parameter.data().asnumpy()
            assert np.abs(state[key].numpy() - other).max() <= 1e-5 * np.abs(other).max(), key
    assert len(differences) > 30
    return max(differences)


# ---- files ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    mx.random.seed(0)
    net = get_model("fastscnn", nclass=5)
    net.hybridize()
    x = LIFE.image(64, 96)
    wanted = net(x)[0].asnumpy()
    net.export(str(folder / "net"))
    return folder / "net-symbol.json", folder / "net-0000.params", x.asnumpy(), wanted


def test_exported_files_run_without_mxnet(exported, tmp_path):
    symbol, params, x, wanted = exported
    np.savez(tmp_path / "case.npz", x=x, wanted=wanted)
    code = (f"import sys, numpy as np, torch\nsys.modules['mxnet'] = None\nfrom mxnetseg import to_torch\n"
            f"case = np.load({str(tmp_path / 'case.npz')!r})\n"
            f"got = to_torch({str(symbol)!r}, {str(params)!r})(torch.from_numpy(case['x'])).detach().numpy()\n"
            "print(np.abs(got - case['wanted']).max() / np.abs(case['wanted']).max() < 1e-5)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=200)
    assert done.stdout.strip() == "True", done.stderr


def test_the_module_is_copied_pickled_and_prints_its_code(exported):
    symbol, params, x, _ = exported
    module = to_torch(symbol, params)
    wanted = module(torch.from_numpy(x))
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(torch.from_numpy(x)), wanted)
    assert "torch.conv2d(data," in module.code and "return" in module.code


def test_channels_last_gives_the_same_result(exported):
    symbol, params, x, wanted = exported
    module = to_torch(symbol, params).to(memory_format=torch.channels_last)
    got = module(torch.from_numpy(x).to(memory_format=torch.channels_last)).detach().numpy()
    assert np.abs(got - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_parameters_of_another_network_are_refused(exported, tmp_path):
    symbol, params, *_ = exported
    arrays = read_arrays(params)
    first = next(iter(arrays))
    write_arrays(tmp_path / "other.params", {f"arg:{i}": value for i, value in enumerate(arrays.values())})
    with pytest.raises(CheckpointError, match="parameters of the graph are missing"):
        to_torch(symbol, tmp_path / "other.params")
    with pytest.raises(CheckpointError) as error:
        to_torch(symbol, {name: value for name, value in arrays.items() if name != first})
    assert "1 missing" in str(error.value) and first.partition(":")[2] in str(error.value)
    weight = next(name for name, value in arrays.items() if value.ndim == 4 and value.shape[2] == 3)
    with pytest.raises(CheckpointError, match="wrong shape"):
        to_torch(symbol, {**arrays, weight: arrays[weight][:, :, :2]})
    with pytest.raises(CheckpointError, match="wrong shape"):
        to_torch(symbol, {**arrays, weight: arrays[weight][:-1]})


@pytest.mark.parametrize("cut", [0, 1, 100, 0.5, -1])
def test_truncated_and_swapped_files_are_refused(exported, tmp_path, cut):
    symbol, params, *_ = exported
    for path, arguments in ((symbol, lambda file: (file, params)), (params, lambda file: (symbol, file))):
        data = path.read_bytes()
        file = tmp_path / path.name
        file.write_bytes(data[:int(len(data) * cut) if isinstance(cut, float) else cut])
        with pytest.raises(CheckpointError):
            to_torch(*arguments(file))
        file.unlink()
    with pytest.raises(CheckpointError):
        to_torch(params, symbol)


def test_unknown_operators_are_listed_together():
    data = mx.sym.var("data")
    symbol = mx.sym.arctanh(mx.sym.arctanh(mx.sym.contrib.fft(data)))
    with pytest.raises(CheckpointError) as error:
        to_torch(symbol, {})
    assert error.value.received == "arctanh (2x), _contrib_fft (1x)"


def test_wrong_sources_inputs_and_uninitialised_networks_are_refused(exported):
    symbol, params, *_ = exported
    for arguments in ((3, params), (symbol,), (get_model("fastscnn", nclass=2), params)):
        with pytest.raises(UsageError):
            to_torch(*arguments)
    with pytest.raises(CheckpointError, match="does not have these inputs"):
        to_torch(symbol, params, inputs=["image"])
    with pytest.raises(CheckpointError, match="no value"):
        to_torch(mx.gluon.nn.Dense(3))
