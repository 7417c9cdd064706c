"""`mxnetseg train --resume`: the run that is resumed, or a refusal that shows both configurations."""
import os

import mxnet as mx
import pytest
from sidecars import Net, sections

from mxnetseg.config import Config, load_config
from mxnetseg.engine.checkpoint import Checkpoint
from mxnetseg.engine.lock import RunLock
from mxnetseg.errors import UsageError
from mxnetseg.tools import train
from mxnetseg.tools.main import Parser, run_command


@pytest.fixture
def weights(tmp_path):
    return tmp_path / "weights"


@pytest.fixture
def write(weights):
    """Function that writes a resumable run of FCN: ``write(changes, epoch=3)``."""
    def make(changes=(), *, epoch=3, written=100, name="fcn_resnet18_sample_20260101_120000"):
        config = load_config(model="fcn").replace(dict(changes))
        checkpoint = Checkpoint(weights / "fcn" / f"{name}.params")
        checkpoint.write(Net, sections(config=config.to_dict(), progress={**sections()["progress"], "epoch": epoch}),
                         {"momentum": mx.nd.ones((2,))})
        config.dump(checkpoint.path.with_suffix(".yaml"))
        os.utime(checkpoint.sidecar_path, (written, written))
        return checkpoint
    return make


@pytest.fixture
def choose(weights):
    """Function that returns the configuration and checkpoint of a command: ``choose('--model', 'fcn', ...)``."""
    def ask(*arguments):
        parser = Parser(prog="train")
        train.add_arguments(parser)
        return train._configuration(parser.parse_args([*map(str, arguments), "--weights", str(weights)]))
    return ask


class TestAuto:
    def test_the_same_configuration_is_resumed(self, write, choose):
        checkpoint = write({"optimizer.lr": 0.02})
        config, resume = choose("--model", "fcn", "--lr", "0.02", "--resume", "auto")
        assert resume.path == checkpoint.path and config == load_config(model="fcn").replace({"optimizer.lr": 0.02})

    @pytest.mark.parametrize("arguments, key, run, wanted", [
        (["--lr", "0.5"], "optimizer.lr", str(load_config(model="fcn").optimizer.lr), "0.5"),
        (["--set", "loss.dice=1"], "loss.dice", "0.0", "1.0"),
        (["--crop", "96"], "data.crop_size", "[128, 192]", "[96, 96]"),
        (["--set", "loss.ohem.thresh=0.6"], "loss.ohem.thresh", "null", "0.6")])
    @pytest.mark.parametrize("epoch", [3, 30])
    def test_another_configuration_is_refused_with_both(self, write, choose, arguments, key, run, wanted, epoch):
        checkpoint = write(epoch=epoch)
        with pytest.raises(UsageError, match="has another configuration") as error:
            choose("--model", "fcn", *arguments, "--resume", "auto")
        lines = [line.split() for line in str(error.value.received).splitlines()]
        assert lines[0] == ["key", "run", "wanted"] and [key, *run.split(), *wanted.split()] in lines
        for way in (f"mxnetseg train --resume {checkpoint.path}", "--set KEY=VALUE", "leave out --resume"):
            assert way in error.value.fix

    def test_a_file_that_has_changed_is_refused(self, write, choose, tmp_path):
        write()
        file = tmp_path / "mine.yaml"
        file.write_text("_base_: fcn\ntrain: {epochs: 40}\n")
        with pytest.raises(UsageError, match="train.epochs") as error:
            choose("--config", file, "--resume", "auto")
        assert len(str(error.value.received).splitlines()) == 2  # the heading, and the one key that differs

    def test_options_of_the_run_that_this_command_lacks(self, write, choose):
        write({"train.batch_size": 2})
        with pytest.raises(UsageError, match="train.batch_size"):
            choose("--model", "fcn", "--resume", "auto")

    def test_harmless_keys_may_differ_and_take_effect(self, write, choose):
        write({"data.root": "/old", "data.workers": 7, "train.log_every": 3})
        config, resume = choose("--model", "fcn", "--root", "/new", "--workers", 5, "--resume", "auto")
        assert resume is not None
        assert (config.data.root, config.data.workers, config.train.log_every) == ("/new", 5, 3)

    @pytest.mark.parametrize("option", [["--epochs", "50"], ["--set", "train.epochs=50"]])
    def test_more_epochs_are_given_by_an_option(self, write, choose, option):
        checkpoint = write(epoch=30)
        config, resume = choose("--model", "fcn", *option, "--resume", "auto")
        assert resume.path == checkpoint.path and config.train.epochs == 50

    def test_of_several_runs_the_newest_with_the_wanted_configuration(self, write, choose):
        write(written=100, name="a")
        wanted = write(written=200, name="b")
        write({"optimizer.lr": 0.5}, written=300, name="c")
        assert choose("--model", "fcn", "--resume", "auto")[1].path == wanted.path

    def test_runs_of_other_data_are_ignored(self, write, choose):
        write({"data.name": "camvid"})
        assert choose("--model", "fcn", "--resume", "auto")[1] is None

    def test_a_key_that_is_newer_than_the_run(self, write, choose, monkeypatch):
        to_dict = Config.to_dict

        def without(self):
            values = to_dict(self)
            del values["data"]["cutout"]
            return values
        with monkeypatch.context() as patch:
            patch.setattr(Config, "to_dict", without)
            checkpoint = write()
        assert choose("--model", "fcn", "--resume", "auto")[1].path == checkpoint.path
        with pytest.raises(UsageError, match="data.cutout"):
            choose("--model", "fcn", "--set", "data.cutout=0.5", "--resume", "auto")


class TestAnActiveRun:
    @pytest.mark.parametrize("saved", [True, False])
    def test_it_is_neither_resumed_nor_silently_duplicated(self, write, choose, saved):
        checkpoint = write()
        if not saved:  # it is in its first epoch
            for suffix in (".params", ".json", ".state"):
                checkpoint.path.with_suffix(suffix).unlink()
        lock = RunLock(checkpoint.path)
        with pytest.raises(UsageError, match="being trained by another process") as error:
            choose("--model", "fcn", "--resume", "auto")
        assert f"process {os.getpid()} on " in str(error.value) and "leave out --resume" in error.value.fix
        lock.release()
        assert (choose("--model", "fcn", "--resume", "auto")[1] is not None) == saved

    def test_an_active_run_of_other_data_is_no_obstacle(self, write, choose):
        lock = RunLock(write({"data.name": "camvid"}).path)
        assert choose("--model", "fcn", "--resume", "auto")[1] is None
        lock.release()


class TestAFinishedRun:
    @pytest.mark.parametrize("how", ["auto", "path", "fewer epochs"])
    def test_it_is_reported_with_the_way_to_train_it_longer(self, write, weights, capsys, how):
        checkpoint = write(epoch=30)
        before = {path.name: path.read_bytes() for path in checkpoint.path.parent.iterdir()}
        arguments = ["--resume", str(checkpoint.path)] if how == "path" else ["--model", "fcn", "--resume", "auto"]
        arguments += ["--epochs", "5"] if how == "fewer epochs" else []
        assert run_command("train", [*arguments, "--weights", str(weights)]) == 0
        out = capsys.readouterr().out
        assert "that run is finished: 30 epochs are done" in out and "Nothing was trained" in out
        assert f"mxnetseg train --resume {checkpoint.path} --epochs N" in out
        assert {path.name: path.read_bytes() for path in checkpoint.path.parent.iterdir()} == before

    def test_its_best_checkpoint_is_refused(self, write, weights, capsys):
        checkpoint = write(epoch=30)
        best = Checkpoint(checkpoint.path.with_name(checkpoint.stem + "_best.params"))
        best.write(Net, {key: value for key, value in checkpoint.read_sidecar().items()
                         if key in sections()})
        assert run_command("train", ["--resume", str(best.path), "--weights", str(weights)]) == 1
        assert "without _best" in capsys.readouterr().err
