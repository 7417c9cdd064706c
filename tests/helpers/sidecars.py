"""Networks and sidecars for tests that write a checkpoint without a training."""


class Net:
    """Network with one parameter of two numbers, as far as a checkpoint needs a network."""

    @staticmethod
    def named_parameters():
        import mxnet as mx  # not for those who only need sections()

        parameter = mx.gluon.Parameter("weight", shape=(2,))
        parameter.initialize(mx.init.One(), ctx=mx.cpu())
        return {"weight": parameter}


def sections(**changes):
    """Return the sections that every resumable checkpoint has, of a network with two classes, with ``changes``."""
    return {"model": {"name": "fcn", "nclass": 2},
            "data": {"name": "sample", "classes": ["a", "b"], "palette": [[0, 0, 0], [9, 9, 9]], "ignore": 255,
                     "raw_ids": None},
            "normalisation": {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]},
            "protocol": {"splits": {"train": "train", "val": "val"}}, "metrics": None,
            "contents": {"train": {"split": "train", "images": 9, "names": "0" * 64}, "val": None},
            "progress": {"epoch": 0, "batch": 0, "best": None, "best_epoch": None, "loss_sum": 0.0, "seconds": 0.0},
            "steps_per_epoch": 10, "loss_scale": None, "config": {}, **changes}
