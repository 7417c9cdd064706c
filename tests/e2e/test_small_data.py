"""Training on few images, and on masks from which nothing can be learnt, which is reported early."""
import numpy as np
import pytest
from PIL import Image

from mxnetseg.tools import train
from mxnetseg.tools.main import Parser, run_command


@pytest.fixture
def few(own_data):
    """Three training images and one validation image."""
    (own_data / "train.txt").write_text("train0\ntrain1\ntrain2\n")
    (own_data / "val.txt").write_text("val0\n")
    return own_data


def test_the_default_batch_size_shrinks_with_a_note(command, options, few, tmp_path):
    without = [word for i, word in enumerate(options) if "--batch-size" not in options[max(i - 1, 0):i + 1]]
    arguments = ["train", *without, "--data", f"folder:{few}", "--epochs", "1", "--weights", tmp_path / "w", "--quiet"]
    done = command(*arguments)
    assert done.code == 0 and "batch size 3 instead of 8: there are 3 training images" in done.err
    assert "that run is finished" in (again := command(*arguments, "--resume", "auto")).out + again.err
    refused = command(*arguments, "--batch-size", "8")
    assert refused.code == 2 and "fewer images than one batch" in refused.err


@pytest.fixture
def config(few, tmp_path):
    """Write a user's configuration with these lines; return its path."""
    def write(*lines):
        (tmp_path / "own.yaml").write_text("\n".join([f"data: {{name: 'folder:{few}'}}", *lines]))
        return tmp_path / "own.yaml"
    return write


def test_a_batch_size_in_the_configuration_does_not_shrink(command, options, config, tmp_path):
    without = [word for i, word in enumerate(options) if "--batch-size" not in options[max(i - 1, 0):i + 1]]
    arguments = ["train", *without, "--epochs", "1", "--weights", tmp_path / "w", "--quiet", "--config"]
    done = command(*arguments, config())
    assert done.code == 0 and "batch size 3 instead of 8: there are 3 training images" in done.err
    refused = command(*arguments, config("train: {batch_size: 8}"))
    assert refused.code == 2 and "fewer images than one batch" in refused.err


def test_the_batch_size_shrinks_to_a_multiple_of_devices_and_micro_batches(few):
    def fitting(*words):
        arguments = ["--model", "fcn", "--data", f"folder:{few}", *words]
        parser = Parser(prog="train")
        train.add_arguments(parser)
        return [train._configuration(parser.parse_args(arguments), devices)[0].train.batch_size
                for devices in (1, 2, 3, 4)]
    assert fitting() == [3, 2, 3, 8]  # four devices cannot share three images: the trainer refuses
    assert fitting("--set", "train.accumulate=2") == [2, 8, 8, 8]


def test_the_batch_of_a_small_pack_shrinks(few, tmp_path):
    assert run_command("pack", [str(few), str(tmp_path / "packs"), "--quiet"]) == 0
    parser = Parser(prog="train")
    train.add_arguments(parser)
    config, _ = train._configuration(parser.parse_args(["--model", "fcn", "--data", f"pack:{tmp_path / 'packs'}"]))
    assert config.train.batch_size == 3


def test_masks_of_0_and_255_are_refused_before_the_first_step(command, options, few, tmp_path):
    for path in (few / "masks").iterdir():
        Image.fromarray(np.where(np.array(Image.open(path)) == 1, 255, 0).astype(np.uint8)).save(path)
    done = command("train", *options, "--data", f"folder:{few}", "--weights", tmp_path / "w", "--quiet")
    assert done.code == 1 and "two readings of 255" in done.err and "prepare colours" in done.err
    assert not list((tmp_path / "w").rglob("*.params"))


def test_a_class_without_a_labelled_pixel_causes_a_warning(command, options, few, tmp_path):
    (few / "classes.txt").write_text("red\ngreen\nblue\nviolet\n")
    done = command("train", *options, "--data", f"folder:{few}", "--epochs", "2", "--weights", tmp_path / "w",
                   "--quiet")
    assert done.code == 0 and done.err.count("'violet': the network cannot learn it") == 1 and "'red'" not in done.err
