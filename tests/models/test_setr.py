"""SETR's three decoders, and the vision transformer at other sizes than its position embedding's."""
import mxnet as mx
import numpy as np
import pytest

from mxnetseg.errors import ConfigError, UnknownNameError
from mxnetseg.losses import global_backward
from mxnetseg.models import get_model
from mxnetseg.models.backbones import get_backbone

AUX = {"naive": 3, "pup": 4, "mla": 4}


def image(height, width, batch=1):
    return mx.nd.array(np.random.RandomState(height + width).normal(size=(batch, 3, height, width)))


def build(decoder, **options):
    return get_model("setr", backbone="vit_reduced", nclass=5, decoder=decoder, **options)


def vit(**options):
    backbone = get_backbone("vit_reduced", output_stride=16, options=options)
    mx.random.seed(0)
    backbone.initialize(mx.init.Xavier())
    return backbone


@pytest.mark.parametrize("decoder", AUX)
@pytest.mark.parametrize("aux", [False, True])
def test_decoders_at_any_size_hybridised_or_not(decoder, aux):
    net = build(decoder, aux=aux)
    sizes = [(33, 50), (97, 65), (64, 32), (16, 16), (33, 50)]
    plain = [[output.asnumpy() for output in net(image(*size))] for size in sizes]
    net.hybridize()
    for size, wanted in zip(sizes, plain):
        got = [output.asnumpy() for output in net(image(*size))]
        assert len(got) == len(wanted) == 1 + aux * AUX[decoder]
        for one, other in zip(got, wanted):
            assert one.shape == (1, 5, *size) and np.isfinite(one).all()
            assert np.abs(one - other).max() <= 1e-5 * np.abs(other).max()


@pytest.mark.parametrize("decoder", AUX)
@pytest.mark.parametrize("aux", [False, True])
def test_gluons_trainer_finds_no_parameter_without_gradient(decoder, aux):
    net = build(decoder, aux=aux)
    net.hybridize()
    loss = net.loss()
    loss.initialize()
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 1e-3})
    for _ in range(2):
        with mx.autograd.record():
            parts = loss(net(image(33, 50, batch=2)), mx.nd.ones((2, 33, 50), dtype="uint8"))
        global_backward([parts], loss.weights)
        trainer.step(1)  # raises an error for a parameter without gradient
    for name, p in net.named_parameters().items():
        assert p.grad_req == "null" or p.grad().asnumpy().any(), name


def test_pup_has_logits_below_zero_unless_it_is_the_port():
    x = image(48, 48)
    assert build("pup")(x)[0].asnumpy().min() < 0
    assert build("pup", variant="port")(x)[0].asnumpy().min() == 0


def test_the_position_embedding_is_unchanged_at_its_grid():
    """Compared bit by bit with a transformer to which the embedding is added separately."""
    backbone = vit(grid=(3, 5))
    x = image(48, 80)
    features = [feature.asnumpy() for feature in backbone(x)]
    position = backbone.pos_embed.data()
    patches = backbone.patch_embed(x)
    tokens = mx.nd.swapaxes(mx.nd.reshape(patches, (0, 0, -1)), 1, 2) + position
    layers = list(backbone.blocks._children.values())
    for number, layer in enumerate(layers, start=1):
        tokens = layer(tokens)
        if number in (6, 12, 18, 24):
            wanted = mx.nd.swapaxes(tokens, 1, 2).asnumpy().reshape(1, 64, 3, 5)
            np.testing.assert_array_equal(features[number // 6 - 1], wanted)


def test_the_position_embedding_is_interpolated_on_another_grid():
    """An embedding that increases linearly to the right still does so on a finer grid."""
    backbone = vit(grid=(2, 4))
    ramp = np.broadcast_to(np.arange(4.0)[None, :, None], (2, 4, 64)).reshape(1, 8, 64)
    backbone.pos_embed.set_data(mx.nd.array(ramp))
    seen = []
    backbone.drop.register_forward_hook(lambda block, inputs, output: seen.append(inputs[0].asnumpy()))
    backbone.patch_embed.linear.weight.set_data(mx.nd.zeros((64, 3, 16, 16)))
    backbone(image(30, 120))  # 2 x 8 patches
    row = seen[0].reshape(2, 8, 64)[:, :, 0]
    assert np.abs(row - [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]).max() < 1e-6


def test_padding_adds_zeros_to_the_right_and_at_the_bottom():
    backbone = vit(grid=2)
    x = image(20, 45)
    padded = mx.nd.zeros((1, 3, 32, 48))
    padded[:, :, :20, :45] = x
    for one, other in zip(backbone(x), backbone(padded)):
        np.testing.assert_array_equal(one.asnumpy(), other.asnumpy())


@pytest.mark.parametrize("decoder, fractions", [("naive", (5, 8, 10, 12)), ("mla", (3, 6, 9, 12))])
def test_the_taps_of_a_shallower_transformer_are_at_the_same_fractions(decoder, fractions):
    from mxnetseg.models.backbones.vit import VisionTransformer
    from mxnetseg.models.setr import LAYERS

    backbone = VisionTransformer(depth=12, width=8, mlp_width=8, heads=2, fractions=[n / 24 for n in LAYERS[decoder]])
    assert backbone._tap_layers == fractions


def test_invalid_arguments_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'naive'"):
        build("naïve")
    with pytest.raises(UnknownNameError, match="did you mean 'port'"):
        build("pup", variant="ports")
    with pytest.raises(ConfigError, match="needs a vision transformer"):
        get_model("setr", backbone="resnet18")
    for grid in (0, 2.5, [3], [3, 0]):
        with pytest.raises(ConfigError, match="grid"):
            build("pup", grid=grid)
