"""The vision transformer's class token, and position embeddings of another grid."""
import mxnet as mx
import numpy as np

from mxnetseg.models.backbones import get_backbone


def build(**options):
    mx.random.seed(0)
    backbone = get_backbone("vit_reduced", output_stride=16, options={"grid": (2, 3), **options})
    backbone.initialize(mx.init.Xavier())
    return backbone


def image(*size):
    return mx.nd.array(np.random.RandomState(sum(size)).normal(size=(2, 3, *size)))


def test_the_class_token_is_attended_to_but_not_part_of_a_tap():
    backbone = build(class_token=True)
    x = image(32, 48)
    plain = [y.asnumpy() for y in backbone(x)]
    assert {y.shape for y in plain} == {(2, 64, 2, 3)}
    backbone.hybridize()
    for got, wanted in zip(backbone(x), plain):
        assert np.abs(got.asnumpy() - wanted).max() <= 1e-5 * np.abs(wanted).max()
    assert backbone(image(33, 50))[-1].shape == (2, 64, 3, 4)
    with mx.autograd.record():
        total = (backbone(x)[-1] ** 2).sum()
    total.backward()
    assert np.abs(backbone.class_token.grad().asnumpy()).max() > 0
    backbone.class_token.set_data(mx.nd.array(np.linspace(-9, 9, 64).reshape(1, 1, 64)))
    assert np.abs(backbone(x)[-1].asnumpy() - plain[-1]).max() > 1e-4


def test_a_position_embedding_of_another_grid_is_resized():
    backbone = build(class_token=True)
    theirs = np.random.RandomState(0).normal(size=(1, 1 + 4 * 4, 64)).astype("float32")
    token = np.ones((1, 1, 64), "float32")
    got = backbone.convert({"cls_token": token, "pos_embed": theirs}, pytorch=True)
    np.testing.assert_array_equal(got["class_token"], token + theirs[:, :1])
    wanted = mx.nd.contrib.BilinearResize2D(mx.nd.array(theirs[:, 1:].reshape(1, 4, 4, 64).transpose(0, 3, 1, 2)),
                                            height=2, width=3, align_corners=False).asnumpy()
    np.testing.assert_allclose(got["pos_embed"], wanted.reshape(1, 64, 6).transpose(0, 2, 1), atol=1e-6)
    # for the same grid, square or not, it is unchanged; without a class token that one is left out
    same = build().convert({"cls_token": token, "pos_embed": theirs[:, :7]}, pytorch=True)
    assert set(same) == {"pos_embed"}
    np.testing.assert_array_equal(same["pos_embed"], theirs[:, 1:7])
