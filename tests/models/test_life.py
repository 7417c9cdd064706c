"""Every registered network: built, called at any size, trained, saved, exported.

The tests enumerate the registry, so every registered network is tested. They use small sizes and a small backbone. FCN
is tested on all backbones, since it requires only two taps.
"""
import fnmatch
import inspect
import socket

import mxnet as mx
import numpy as np
import pytest
from small_networks import SMALL

from mxnetseg._resize_marks import ALIGN_CORNERS
from mxnetseg.backends.mxnet_trace import trace_prediction
from mxnetseg.backends.resizes import RESIZE, with_resizes
from mxnetseg.config import load_config
from mxnetseg.config.loader import list_configs
from mxnetseg.errors import ConfigError, UnknownNameError
from mxnetseg.losses import Blend, CrossEntropy, MixedLoss, global_backward, global_value
from mxnetseg.models import MODELS, get_model, list_models, model_arguments
from mxnetseg.models.backbones import list_backbones
from mxnetseg.models.weights.loading import assign, read_params

NCLASS = 5

# model -> the arguments of further variants to test
MORE = {"acfnet": [{"form": "pytorch", "backbone": "ecaresnet50"}],
        **{name: [{"variant": "mmseg", "backbone": "resnet18"}]
           for name in ("bisenet", "danet", "deeplabv3plus", "semanticfpn")},
        "pidnet": [{"variant": "l"}, {"form": "mmseg"}], "segformer": [{"form": "mmseg"}, {"backbone": "resnet18"}],
        "setr": [{"variant": "mmseg", "decoder": "naive", "backbone": "vit_reduced"}]}
# backbones that only the full suite tests: deep ones, or another size of one in the quick suite
SLOW = ("resnet34*", "resnet50*", "resnet101*", "resnet152*", "ecaresnet*",
        "mobilenet_v2_0_5", "mobilenet_v2_0_75", "mobilenet_v2_1_0", "mobilenet_v3_large", "efficientnet_lite*",
        "xception65*", "densenet161", "densenet169", "densenet201", "vit_base_16", "mit_b[12]", "resnest26",
        "resnest50", "resnest101")
# too large for a test; a smaller size runs the same code
HUGE = ("mit_b3", "mit_b4", "mit_b5", "vit_large_16", "vit_huge_16", "resnest200", "resnest269")
FIXED_STRIDE = {"densenet": 32, "mit": 32, "vit": 16}  # backbones that do not support FCN's default


def subjects():
    """Yield the (model, arguments) to test."""
    for name in list_models():
        if name == "fcn":
            for backbone in list_backbones():
                if backbone in HUGE:
                    continue
                family = backbone.split("_")[0].rstrip("0123456789")
                fixed = {"output_stride": FIXED_STRIDE[family]} if family in FIXED_STRIDE else {}
                yield name, {"backbone": backbone, **fixed}
            continue

        arguments = dict(SMALL.get(name, {}))
        default = inspect.signature(MODELS.get(name).__init__).parameters.get("backbone")
        if default is not None and default.default.startswith("resnet"):
            arguments.setdefault("backbone", "resnet18")
        yield name, arguments
        for more in MORE.get(name, ()):
            yield name, more


def parameter(name, arguments):
    slow = any(fnmatch.fnmatch(arguments.get("backbone", ""), pattern) for pattern in SLOW)
    return pytest.param((name, arguments), id="-".join([name, *map(str, arguments.values())]),
                        marks=pytest.mark.slow if slow else ())


def build(subject, **changes):
    name, arguments = subject
    if "aux" in model_arguments(name):
        changes = {"aux": True, **changes}
    return get_model(name, **{"nclass": NCLASS, **arguments, **changes})


def image(height, width, batch=1):
    return mx.nd.array(np.random.RandomState(height + width).normal(size=(batch, 3, height, width)))


def label(height, width, batch):
    """Return a learnable label: three stripes of classes and an unlabelled border."""
    classes = np.arange(width) * 3 // width
    mask = np.broadcast_to(classes, (batch, height, width)).astype("uint8")
    mask[:, :3] = 255
    return mx.nd.array(mask, dtype="uint8")


def outputs_of(net, x):
    return [output.asnumpy() for output in net(x)]


def assert_close(got, wanted, relative=1e-5):
    assert len(got) == len(wanted)
    for one, other in zip(got, wanted):
        assert one.shape == other.shape
        assert np.abs(one - other).max() <= relative * np.abs(other).max()


@pytest.fixture(scope="class")
def net(subject):
    """Return one network for the tests that do not change its parameters."""
    mx.random.seed(0)
    return build(subject)


@pytest.fixture
def offline(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the test must not open a connection")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("subject", [parameter(*subject) for subject in subjects()], scope="class")
class TestLife:
    def test_builds_offline_with_every_parameter_initialised(self, subject, offline):
        net = build(subject)
        for name, p in net.named_parameters().items():
            assert np.isfinite(p.data().asnumpy()).all(), name
        assert net.nclass == NCLASS and net.model_name == subject[0]

    def test_any_size_even_if_it_changes_between_hybridised_calls(self, subject, net):
        sizes = [(32, 32), (33, 50), (97, 65), (64, 47), (33, 50)]
        net.hybridize(False)
        plain = [outputs_of(net, image(*size)) for size in sizes]
        net.hybridize()
        for size, wanted in zip(sizes, plain):
            got = outputs_of(net, image(*size))
            assert got[0].shape == (1, NCLASS, *size)
            assert {(output.shape[0], *output.shape[2:]) for output in got} == {(1, *size)}
            assert all(np.isfinite(output).all() for output in got)
            assert_close(got, wanted)

    def test_declares_the_stride_that_it_ends_by_resizing_with_aligned_corners(self, subject, net):
        """Tiles of large images depend on it. Logits are linear between the samples of the map before the resize."""
        nodes = with_resizes(trace_prediction(net)[0]).nodes
        kinds = [node.attributes["kind"] for node in nodes if node.op == RESIZE]
        if net.aligned_stride == 1:
            assert kinds != [ALIGN_CORNERS] or subject[1].get("backbone", "").startswith("densenet")
            return
        assert kinds[-1] == ALIGN_CORNERS
        net.hybridize(False)
        logits = outputs_of(net, image(97, 129))[0]
        bend = np.abs(np.diff(logits, n=2, axis=2)).max(axis=(0, 1, 3))
        at_samples = np.arange(1, 96) % net.aligned_stride == 0
        assert bend[~at_samples].max() < 1e-3 * bend.max()
        assert bend[at_samples].min() > 1e-2 * bend.max()

    def test_a_sample_does_not_depend_on_its_batch(self, subject, net):
        x = image(40, 56, batch=3)
        together = outputs_of(net, x)
        alone = outputs_of(net, x[1:2])
        assert_close([output[1:2] for output in together], alone, relative=1e-4)

    def test_the_declared_loss_addresses_the_outputs(self, subject, net):
        loss = net.loss(aux_weight=0.25)
        assert isinstance(loss, MixedLoss)
        outputs = net(image(32, 32))
        terms = net.terms(Blend([(1.0, CrossEntropy(NCLASS))]), 0.25)
        seen = [term.output if isinstance(term.output, tuple) else (term.output,) for term in terms]
        assert {output for outputs_of_one in seen for output in outputs_of_one} == set(range(len(outputs)))
        assert len(loss.weights) == len(terms) and all(weight > 0 for weight in loss.weights)
        loss.initialize()
        value = global_value([loss(outputs, label(32, 32, 1))], loss.weights)
        assert value.shape == (1,) and np.isfinite(value.asscalar())

    def test_every_trainable_parameter_gets_a_gradient(self, subject):
        net = build(subject)
        loss = net.loss()
        loss.initialize()
        x = image(65, 71, batch=4)  # of fewer, drop path may drop all
        with mx.autograd.record():
            parts = loss(net(x), label(65, 71, 4))
        global_backward([parts], loss.weights)

        patterns = list(net.zero_gradient_at_start)
        without = set()
        for name, p in net.named_parameters().items():
            if p.grad_req != "null":
                gradient = p.grad().asnumpy()
                assert np.isfinite(gradient).all(), name
                if not gradient.any():
                    without.add(name)
        excused = {name for name in without if any(fnmatch.fnmatch(name, p) for p in patterns)}
        assert without == excused
        # every pattern must be necessary
        assert all(fnmatch.filter(excused, pattern) for pattern in patterns)

    def test_training_steps_lower_the_loss(self, subject):
        net = build(subject)
        loss = net.loss()
        loss.initialize()
        net.hybridize()
        trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.01, "momentum": 0.9})
        x, y = image(48, 65, batch=2), label(48, 65, 2)
        values = []
        for _ in range(8):
            with mx.autograd.record():
                parts = loss(net(x), y)
            values.append(global_backward([parts], loss.weights).asscalar())
            trainer.step(1)
        assert np.isfinite(values).all()
        assert values[-1] < 0.9 * values[0], values

    def test_parameters_are_saved_and_loaded(self, subject, net, tmp_path):
        file = tmp_path / "net.params"
        net.save_parameters(str(file))
        mx.random.seed(1)
        other = build(subject)
        x = image(33, 50)
        assert not np.array_equal(other(x)[0].asnumpy(), net(x)[0].asnumpy())
        assert assign(other, read_params(file), where=file) == []
        file.unlink()
        assert_close(outputs_of(other, x), outputs_of(net, x))

    def test_the_exported_graph_runs_at_another_size(self, subject, net, tmp_path):
        net.hybridize()
        net(image(32, 48))
        net.export(str(tmp_path / "net"))
        again = mx.gluon.SymbolBlock.imports(str(tmp_path / "net-symbol.json"), ["data"],
                                             str(tmp_path / "net-0000.params"))
        x = image(50, 33)
        outputs = again(x)
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        assert_close([output.asnumpy() for output in outputs], outputs_of(net, x))
        (tmp_path / "net-0000.params").unlink()

    def test_group_norm_instead_of_batch_norm(self, subject):
        net = build(subject, norm="gn")
        assert not [name for name in net.named_parameters() if name.endswith("running_mean")]
        assert np.isfinite(net(image(33, 50))[0].asnumpy()).all()

    def test_a_misspelt_argument_raises_an_error_with_the_right_name(self, subject):
        name, arguments = subject
        for argument in model_arguments(name):
            wrong = argument + "s"
            with pytest.raises(UnknownNameError, match=f"'{wrong}'(.|\n)*did you mean (.|\n)*'{argument}'"):
                get_model(name, **{wrong: 1})

    def test_arguments_are_keyword_only_and_named(self, subject):
        parameters = list(inspect.signature(MODELS.get(subject[0]).__init__).parameters.values())[1:]
        assert {p.kind for p in parameters} == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("name", list_models())
def test_every_network_has_a_configuration(name):
    assert name in list_configs()
    config = load_config(model=name)
    assert config.model.name == name
    assert load_config(name) == config
    options = {"backbone": config.model.backbone, "output_stride": config.model.output_stride,
               "aux": config.model.aux or None, **config.model.options}
    unknown = {key for key, value in options.items() if value is not None} - set(model_arguments(name))
    assert not unknown


@pytest.mark.parametrize("name", list_models())
def test_every_network_documents_its_input_in_its_file(name):
    network = MODELS.get(name)
    assert network.__doc__ and "x: (N, 3, H, W)" in network.__doc__
    assert inspect.getmodule(network).__name__ == f"mxnetseg.models.{name}"


@pytest.mark.parametrize("alias", sorted(MODELS.aliases))
def test_aliases_resolve(alias):
    assert MODELS.resolve(alias) in list_models()
    assert MODELS.resolve(alias.upper().replace("_", "-")) == MODELS.resolve(alias)


def test_unknown_names_raise_errors_with_similar_names():
    with pytest.raises(UnknownNameError, match="did you mean (.|\n)*'fcn'"):
        get_model("fcnn")
    with pytest.raises(UnknownNameError, match="did you mean (.|\n)*'resnet18'"):
        get_model("fcn", backbone="resnet_81")


@pytest.mark.parametrize("arguments", [
    {"nclass": 0}, {"nclass": 2.5}, {"output_stride": 4}, {"norm": "batch"},
])
def test_invalid_values_are_refused(arguments):
    with pytest.raises(ConfigError):
        get_model("fcn", **arguments)
