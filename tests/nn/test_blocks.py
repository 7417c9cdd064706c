"""Building blocks that several networks share."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import nd

from mxnetseg.models._base import IMAGENET_MEAN, IMAGENET_STD
from mxnetseg.nn.blocks import ConvModule2d, FCNHead, InputStep
from mxnetseg.nn.norm import GroupNorm32


class TestInputStep:
    @pytest.fixture
    def step(self):
        step = InputStep(IMAGENET_MEAN, IMAGENET_STD)
        step.initialize()
        return step

    @pytest.mark.parametrize("hybrid", [True, False])
    def test_bytes_are_normalised(self, step, hybrid):
        step.hybridize(hybrid)
        for shape in [(2, 5, 7, 3), (1, 1, 1, 3), (3, 8, 2, 3)]:
            image = np.random.RandomState(0).randint(0, 256, size=shape).astype("uint8")
            x = step(nd.array(image, dtype="uint8"))
            wanted = ((image / 255.0 - IMAGENET_MEAN) / IMAGENET_STD).transpose(0, 3, 1, 2)
            assert x.dtype == np.float32
            np.testing.assert_allclose(x.asnumpy(), wanted, atol=2e-6)

    def test_extremes_do_not_wrap(self, step):
        for value in (0, 127, 128, 255):
            x = step(nd.full((1, 2, 2, 3), value, dtype="uint8")).asnumpy()
            np.testing.assert_allclose(x[0, :, 0, 0], (value / 255 - np.array(IMAGENET_MEAN)) / IMAGENET_STD,
                                       atol=2e-6)

    def test_nothing_is_learned(self, step):
        assert all(p.grad_req == "null" for p in step.collect_params().values())


def shape_of(block, shape=(2, 4, 9, 11)):
    block.initialize()
    return block(nd.zeros(shape)).shape


class TestConvModule2d:
    @pytest.mark.parametrize("kernel, dilation", [(1, 1), (3, 1), (3, 2), (3, 12), (5, 2), (7, 1)])
    def test_by_default_it_keeps_the_size(self, kernel, dilation):
        assert shape_of(ConvModule2d(6, kernel, dilation=dilation, in_channels=4)) == (2, 6, 9, 11)

    def test_stride_padding_and_groups_are_those_of_the_convolution(self):
        block = ConvModule2d(6, 3, 2, padding=0, groups=2, in_channels=4)
        assert shape_of(block) == (2, 6, 4, 5)
        assert block.conv.weight.shape == (6, 2, 3, 3)

    def test_is_convolution_norm_activation_without_bias(self):
        block = ConvModule2d(6, in_channels=4)
        block.initialize()
        assert block.conv.bias is None
        x = nd.array(np.random.RandomState(0).normal(size=(2, 4, 5, 5)))
        wanted = nd.relu(block.bn(block.conv(x)))
        np.testing.assert_array_equal(block(x).asnumpy(), wanted.asnumpy())
        assert (wanted.asnumpy() == 0).any()

    def test_linear_without_activation(self):
        block = ConvModule2d(6, in_channels=4, activation=None)
        block.initialize()
        assert block(nd.array(np.random.RandomState(0).normal(size=(2, 4, 5, 5)))).min().asscalar() < 0

    def test_norm_follows_gluoncvs_idiom(self):
        block = ConvModule2d(6, in_channels=4, norm_layer=GroupNorm32, norm_kwargs={"epsilon": 0.5})
        assert isinstance(block.bn, GroupNorm32) and block.bn._epsilon == 0.5

    def test_unknown_input_channels_are_taken_from_the_first_input(self):
        assert shape_of(ConvModule2d(6)) == (2, 6, 9, 11)


class TestFCNHead:
    @pytest.mark.parametrize("in_channels, channels, width", [(512, None, 256), (64, None, 64), (64, 24, 24)])
    def test_width(self, in_channels, channels, width):
        head = FCNHead(5, in_channels, channels=channels)
        assert shape_of(head, (1, in_channels, 3, 4)) == (1, 5, 3, 4)
        assert head.conv2.weight.shape == (5, width, 1, 1) and head.conv2.bias.shape == (5,)

    @pytest.mark.parametrize("drop", [0.0, 0.5])
    def test_dropout_is_for_training(self, drop):
        head = FCNHead(5, 16, drop=drop)
        head.initialize()
        x = nd.array(np.random.RandomState(0).normal(size=(1, 16, 6, 6)))
        assert (head(x) == head(x)).min().asscalar() == 1
        with mx.autograd.record():
            one, other = head(x), head(x)
        assert bool((one == other).min().asscalar()) == (drop == 0)

    def test_hybridised_it_gives_the_same(self):
        head = FCNHead(5, 16)
        head.initialize()
        x = nd.array(np.random.RandomState(0).normal(size=(1, 16, 6, 6)))
        wanted = head(x).asnumpy()
        head.hybridize()
        np.testing.assert_allclose(head(x).asnumpy(), wanted, atol=1e-6)

    def test_every_parameter_has_a_gradient(self):
        head = FCNHead(5, 16)
        head.initialize()
        with mx.autograd.record():
            y = head(nd.array(np.random.RandomState(0).normal(size=(2, 16, 6, 6))))
        y.backward(nd.array(np.random.RandomState(1).normal(size=y.shape)))
        learned = [p for p in head.collect_params().values() if p.grad_req != "null"]
        assert len(learned) == 5 and all(p.grad().asnumpy().any() for p in learned)
