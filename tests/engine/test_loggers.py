"""Log of a run: whole rows, each once, after any failure; and wandb, whose failures never stop a run."""
import csv
import json
import logging
import resource
import sys
import types

import pytest
from PIL import Image

from mxnetseg.engine.loggers import RunLog, read_log
from mxnetseg.engine.trackers import Wandb
from mxnetseg.errors import UsageError
from mxnetseg.viz.curves import curves


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def filled(stem, epochs=3):
    """Write a log of two steps per epoch."""
    run_log = RunLog(stem)
    for epoch in range(1, epochs + 1):
        for step in (2 * epoch - 1, 2 * epoch):
            run_log.step({"step": step, "epoch": epoch, "loss": 1 / step, "lr": 0.1})
        run_log.epoch({"step": 2 * epoch, "epoch": epoch, "train_loss": 1 / epoch, "lr": 0.1})
    run_log.close()
    return run_log


class TestRunLog:
    def test_the_rows_and_the_curves(self, tmp_path, monkeypatch):
        monkeypatch.setattr("mxnetseg.engine.loggers.curves", curves)
        run_log = filled(tmp_path / "run")
        run_log.draw()
        assert run_log.path == tmp_path / "run.jsonl" and run_log.curves_path == tmp_path / "run_curves.png"
        assert [(r["kind"], r["step"]) for r in rows(run_log.path)] == \
            [("step", 1), ("step", 2), ("epoch", 2), ("step", 3), ("step", 4), ("epoch", 4), ("step", 5), ("step", 6),
             ("epoch", 6)]
        assert rows(run_log.path)[0] == {"kind": "step", "step": 1, "epoch": 1, "loss": 1.0, "lr": 0.1}
        with Image.open(run_log.curves_path) as image:
            assert image.format == "PNG" and image.size[0] > 300

    def test_the_table_of_the_epochs(self, tmp_path):
        run_log = RunLog(tmp_path / "run")
        run_log.step({"step": 1, "epoch": 1, "loss": 1.0})
        run_log.epoch({"step": 1, "epoch": 1, "train_loss": 0.5})
        run_log.epoch({"step": 2, "epoch": 2, "train_loss": 0.25, "val_miou": 0.5, "val_iou/a, b": 0.75})
        run_log.draw()
        with run_log.table_path.open(newline="") as file:
            assert list(csv.DictReader(file)) == [
                {"step": "1", "epoch": "1", "train_loss": "0.5", "val_miou": "", "val_iou/a, b": ""},
                {"step": "2", "epoch": "2", "train_loss": "0.25", "val_miou": "0.5", "val_iou/a, b": "0.75"}]
        run_log.close()
        again = RunLog(tmp_path / "run", resume_step=1)
        again.draw()
        assert again.table_path.read_text() == "step,epoch,train_loss\n1,1,0.5\n"
        again.close()

    def test_a_row_is_in_the_file_at_once(self, tmp_path):
        run_log = RunLog(tmp_path / "run")
        run_log.step({"step": 1})
        assert rows(run_log.path) == [{"kind": "step", "step": 1}]
        run_log.close()

    def test_a_new_run_starts_an_empty_log(self, tmp_path):
        filled(tmp_path / "run")
        RunLog(tmp_path / "run").close()
        assert rows(tmp_path / "run.jsonl") == []

    @pytest.mark.parametrize("step, kept", [(0, 0), (1, 1), (2, 3), (3, 4), (6, 9), (100, 9)])
    def test_a_resumed_run_drops_later_rows(self, tmp_path, step, kept):
        before = rows(filled(tmp_path / "run").path)
        run_log = RunLog(tmp_path / "run", resume_step=step)
        run_log.step({"step": step + 1})
        run_log.close()
        assert rows(run_log.path) == before[:kept] + [{"kind": "step", "step": step + 1}]

    def test_the_curves_of_a_resumed_run_have_the_epochs_before(self, tmp_path, monkeypatch):
        filled(tmp_path / "run")
        drawn = []
        monkeypatch.setattr("mxnetseg.engine.loggers.curves", lambda epochs, path, **_: drawn.append(list(epochs)))
        run_log = RunLog(tmp_path / "run", resume_step=4)
        run_log.epoch({"step": 6, "epoch": 3, "train_loss": 9})
        run_log.draw()
        run_log.close()
        assert [[r["train_loss"] for r in epochs] for epochs in drawn] == [[1, 1 / 2, 9]]

    @pytest.mark.parametrize("tail", ['{"kind": "step", "st', '{"kind"', "{", "\0\0\0\0"])
    def test_a_line_that_a_crash_cut_short_is_dropped(self, tmp_path, tail):
        run_log = filled(tmp_path / "run")
        before = rows(run_log.path)
        with run_log.path.open("a") as file:
            file.write(tail)
        assert read_log(run_log.path) == before
        run_log = RunLog(tmp_path / "run", resume_step=100)
        run_log.step({"step": 101})
        run_log.close()
        assert rows(run_log.path) == before + [{"kind": "step", "step": 101}]

    @pytest.mark.parametrize("room", [0, 1, 20])
    def test_a_row_that_a_full_disk_refuses_is_written_with_a_later_one(self, tmp_path, room, caplog):
        """A limit on the size of files cuts a row short, as a full disk does."""
        run_log = filled(tmp_path / "run")
        before = rows(run_log.path)
        run_log = RunLog(tmp_path / "run", resume_step=100)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (run_log.path.stat().st_size + room, limits[1]))
        try:
            run_log.step({"step": 7, "loss": 0.25})
            run_log.step({"step": 8, "loss": 0.25})
            assert rows(run_log.path) == before  # whole rows only
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        run_log.step({"step": 9, "loss": 0.25})
        run_log.close()
        assert [row["step"] for row in rows(run_log.path)] == [row["step"] for row in before] + [7, 8, 9]
        assert [("cannot be" in r.getMessage(), "again" in r.getMessage()) for r in caplog.records] == [
            (True, False), (False, True)]

    def test_lost_rows_are_counted(self, tmp_path, caplog):
        run_log = RunLog(tmp_path / "run")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
        try:
            run_log.step({"step": 1})
            run_log.step({"step": 2})
            run_log.close()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        run_log.close()
        assert len(caplog.records) == 2 and "2 rows of the log are lost" in caplog.text

    @pytest.mark.parametrize("line", [b"[1]", b"3", b"null", b'{"kind": "step"}', b'{"kind": "x", "step": 1}',
                                      b'{"kind": "step", "step": "1"}', b'{"kind": "epoch", "step": 1, "a": [1]}',
                                      b"\xff\xfe", b"{", b"[" * 100_000])
    def test_a_broken_row_is_left_out_with_a_warning(self, tmp_path, line, caplog):
        run_log = filled(tmp_path / "run")
        before = rows(run_log.path)
        data = run_log.path.read_bytes().split(b"\n", 1)
        run_log.path.write_bytes(data[0] + b"\n" + line + b"\n" + data[1])
        RunLog(tmp_path / "run", resume_step=100).close()
        assert rows(run_log.path) == before
        assert "1 broken rows of the log are left out (line 2)" in caplog.text

    def test_an_unreadable_log_is_not_overwritten(self, tmp_path, monkeypatch):
        run_log = filled(tmp_path / "run")
        before = run_log.path.read_bytes()

        def refuse(self):
            raise PermissionError(13, "Permission denied", str(self))
        with monkeypatch.context() as patch:
            patch.setattr(type(run_log.path), "read_bytes", refuse)
            with pytest.raises(UsageError, match="log cannot be read"):
                RunLog(tmp_path / "run", resume_step=100)
        assert run_log.path.read_bytes() == before

    def test_without_a_log_there_are_no_rows(self, tmp_path):
        assert read_log(tmp_path / "none.jsonl") == []
        RunLog(tmp_path / "run", resume_step=7).close()
        assert rows(tmp_path / "run.jsonl") == []


class FakeWandb(types.ModuleType):
    """Stand-in for wandb that records its calls; the functions named in ``broken`` raise."""

    def __init__(self, *, key="secret", broken=(), online=True):
        super().__init__("wandb")
        self.calls, self.broken, self.online = [], broken, online
        self.api = types.SimpleNamespace(api_key=key)
        self.Image = lambda array, caption: (array.shape, caption)

    def init(self, **arguments):
        self._note("init", arguments)
        if arguments["mode"] == "online" and not self.online:
            raise ConnectionError("no route")
        return types.SimpleNamespace(id=arguments.get("id", f"id{len(self.calls)}"),
                                     log=lambda row: self._note("log", row), finish=lambda: self._note("finish", None))

    def _note(self, name, value):
        self.calls.append((name, value))
        if name in self.broken:
            raise RuntimeError(f"{name} is broken")


@pytest.fixture
def fake(monkeypatch):
    """Function that replaces wandb by a :class:`FakeWandb`: ``fake(key=None)``."""
    monkeypatch.delenv("WANDB_MODE", raising=False)

    def put(**options):
        module = FakeWandb(**options)
        monkeypatch.setitem(sys.modules, "wandb", module)
        return module
    return put


def use(tmp_path):
    run = Wandb("demo", {"train": {"epochs": 3}}, tmp_path)
    run.log({"kind": "step", "step": 1, "loss": 0.5})
    run.log({"kind": "step", "step": 2, "loss": 0.4})
    run.close()


class TestWandb:
    def test_it_receives_name_configuration_and_rows(self, fake, tmp_path):
        module = fake()
        use(tmp_path)
        (_, init), *rest = module.calls
        assert init == {"project": "mxnetseg", "name": "demo", "config": {"train": {"epochs": 3}},
                        "dir": str(tmp_path), "mode": "online"}
        assert rest == [("log", {"step": 1, "loss": 0.5}), ("log", {"step": 2, "loss": 0.4}), ("finish", None)]

    def test_without_a_login_it_is_offline(self, fake, tmp_path, caplog):
        module = fake(key=None)
        with caplog.at_level(logging.INFO, logger="mxnetseg"):
            use(tmp_path)
        assert [value["mode"] for name, value in module.calls if name == "init"] == ["offline"]
        assert "wandb sync" in caplog.text

    def test_the_environment_has_precedence(self, fake, tmp_path, monkeypatch):
        module = fake()
        monkeypatch.setenv("WANDB_MODE", "disabled")
        use(tmp_path)
        assert [value["mode"] for name, value in module.calls if name == "init"] == ["disabled"]

    def test_without_a_network_it_is_offline(self, fake, tmp_path, caplog):
        module = fake(online=False)
        use(tmp_path)
        assert [value["mode"] for name, value in module.calls if name == "init"] == ["online", "offline"]
        assert ("log", {"step": 1, "loss": 0.5}) in module.calls and "no route" in caplog.text

    def test_not_installed(self, monkeypatch, tmp_path, caplog):
        monkeypatch.setitem(sys.modules, "wandb", None)
        use(tmp_path)
        (record,) = caplog.records
        assert "pip install wandb" in record.getMessage() and record.levelno == logging.WARNING

    def test_an_installation_that_cannot_be_imported(self, monkeypatch, tmp_path, caplog):
        monkeypatch.delitem(sys.modules, "wandb", raising=False)
        (tmp_path / "wandb.py").write_text("raise TypeError('Descriptors cannot be created directly')")
        monkeypatch.syspath_prepend(str(tmp_path))
        use(tmp_path)
        assert "Descriptors" in caplog.text and "training continues" in caplog.text
        sys.modules.pop("wandb", None)

    @pytest.mark.parametrize("broken", ["init", "log", "finish"])
    def test_any_failure_is_reported_and_ends_its_use(self, fake, tmp_path, caplog, broken):
        module = fake(broken=[broken])
        use(tmp_path)
        assert f"{broken} is broken" in caplog.text and "training continues" in caplog.text
        assert all(r.levelno == logging.WARNING for r in caplog.records if "broken" in r.getMessage())
        names = [name for name, _ in module.calls]
        assert names.count("log") == {"init": 0, "log": 1, "finish": 2}[broken]

    def test_a_login_that_cannot_be_read(self, fake, tmp_path, caplog):
        module = fake()
        del module.api
        use(tmp_path)
        assert "training continues" in caplog.text and not module.calls


def test_a_run_with_a_broken_wandb_is_trained_to_its_end(fake, fit, configure, tmp_path):
    fake(broken=["log"])
    _, result = fit(configure({"train.epochs": 1}), tmp_path, wandb="demo")
    assert result.run_state.epoch == 1 and result.last.has_sidecar()


def test_wandb_gets_the_rows_of_the_local_log(fake, fit, configure, tmp_path):
    module = fake()
    trainer, _ = fit(configure({"train.epochs": 2}), tmp_path, wandb="demo")
    local = [{k: v for k, v in row.items() if k != "kind"} for row in rows(trainer.run_log.path)]
    sent = [value for name, value in module.calls if name == "log"]
    images = [row.pop("validation", None) for row in sent]
    assert sent == local
    for row, shown in zip(local, images):  # image, truth, prediction and errors, in the rows of the epochs
        assert ([name for _, name in shown] == ["val0", "val1", "val2"]) if "val_miou" in row else shown is None
    assert all(shape[1] > 4 * 32 and shape[2] == 3 for shape, _ in images[-1])
    assert module.calls[0][1]["config"] == trainer.config.to_dict() and module.calls[-1][0] == "finish"


class TestAResumedRunOnWandb:
    def inits(self, module):
        return [value for name, value in module.calls if name == "init"]

    def test_it_continues_the_same_run(self, fake, fit, configure, tmp_path):
        module = fake()
        _, first = fit(configure(), tmp_path, wandb="demo", stop_at=2)
        assert first.last.read_sidecar()["wandb"] == "id1" and "id" not in self.inits(module)[0]
        _, second = fit(configure(), tmp_path, wandb="demo", resume=first.last, stop_at=1)
        assert self.inits(module)[1] == {**self.inits(module)[0], "id": "id1", "resume": "allow"}
        fit(configure(), tmp_path, wandb="demo", resume=second.last)
        assert self.inits(module)[2]["id"] == "id1"

    def test_it_continues_after_a_part_without_wandb(self, fake, fit, configure, tmp_path):
        module = fake()
        _, first = fit(configure(), tmp_path, wandb="demo", stop_at=2)
        _, second = fit(configure(), tmp_path, resume=first.last, stop_at=1)
        fit(configure(), tmp_path, wandb="demo", resume=second.last)
        assert [init.get("id") for init in self.inits(module)] == [None, "id1"]

    def test_it_is_new_if_the_run_began_without_wandb(self, fake, fit, configure, tmp_path):
        _, first = fit(configure(), tmp_path, stop_at=2)
        assert first.last.read_sidecar()["wandb"] is None
        module = fake()
        fit(configure(), tmp_path, wandb="demo", resume=first.last, stop_at=1)
        assert "id" not in self.inits(module)[0]

    def test_its_id_is_kept_if_wandb_fails(self, fake, fit, configure, tmp_path):
        fake()
        _, first = fit(configure(), tmp_path, wandb="demo", stop_at=2)
        fake(broken=["init"])
        _, second = fit(configure(), tmp_path, wandb="demo", resume=first.last, stop_at=1)
        assert second.last.read_sidecar()["wandb"] == "id1"
