"""`mxnetseg convert`: files in, checkpoints out, and all that can go wrong between."""
import json
import re
import shlex
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from PIL import Image
from torch_files import Call, state_dict, tensor, write_stream, write_zip

from mxnetseg import Predictor
from mxnetseg.config import Config
from mxnetseg.config.loader import parse_override
from mxnetseg.engine.checkpoint import Checkpoint, restore_network
from mxnetseg.models import MODELS, get_model, model_arguments
from mxnetseg.models._foreign import FORMS
from mxnetseg.tools.convert import add_arguments
from mxnetseg.tools.main import Parser, main


@pytest.fixture(scope="module")
def net():
    mx.random.seed(1)
    return get_model("fcn", backbone="resnet18", nclass=19, aux=True)


@pytest.fixture(scope="module")
def arrays(net):
    return {name: p.data().asnumpy() for name, p in net.named_parameters().items()}


@pytest.fixture(scope="module")
def source(arrays, tmp_path_factory):
    """A file with our own names, in PyTorch's format."""
    return write_zip(tmp_path_factory.mktemp("source") / "weights.pth", {"state_dict": state_dict(arrays)})


@pytest.fixture
def convert(source, tmp_path, capsys):
    """``convert(option, ..., file=SRC)``: exit code, output, errors; DST is out/new.params."""
    def run(*options, file=source, target=tmp_path / "out" / "new.params", model="fcn"):
        code = main(["convert", str(file), str(target), "--model", model, *map(str, options)])
        return (code, *capsys.readouterr())
    return run


@pytest.fixture
def few_networks(monkeypatch):
    """A small zoo: a file that fits nothing is compared with every network, which takes seconds."""
    monkeypatch.setattr("mxnetseg.models.list_models", lambda: ["deeplabv3", "fcn", "pspnet"])


def left(tmp_path):
    return sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*"))


def test_a_checkpoint_that_predict_and_eval_take(convert, net, tmp_path):
    code, out, err = convert("--data", "cityscapes")
    assert (code, err) == (0, "")
    assert "fcn on resnet18, 19 classes, aux=True" in out and "(own)" in out and "114 parameters" in out
    assert left(tmp_path) == ["out", "out/new.json", "out/new.params"]

    checkpoint = Checkpoint(tmp_path / "out" / "new.params")
    again, sidecar = restore_network(checkpoint, [mx.cpu()])
    assert sidecar["data"]["classes"][:2] == ["road", "sidewalk"] and sidecar["data"]["raw_ids"][0] == 7
    assert sidecar["model"] == {"name": "fcn", "backbone": "resnet18", "nclass": 19, "aux": True}
    assert sidecar["config"]["data"]["name"] == "cityscapes" and sidecar["config"]["model"]["aux"] is True
    x = mx.nd.random.normal(shape=(1, 3, 33, 49))
    assert all(np.array_equal(a.asnumpy(), b.asnumpy()) for a, b in zip(net(x), again(x)))
    prediction = Predictor(checkpoint)(np.zeros((40, 56, 3), np.uint8))
    assert prediction.class_map.shape == (40, 56) and "road" in prediction.classes


def test_without_a_data_set_the_classes_have_numbers(convert, tmp_path):
    code, out, _ = convert("--nclass", 19, "--backbone", "resnet18", "--set", "model.output_stride=16", "--from", "own")
    sidecar = json.loads((tmp_path / "out" / "new.json").read_text())
    assert code == 0 and "--data" in out
    assert sidecar["data"]["classes"][18] == "class 18" and len(sidecar["data"]["palette"]) == 19
    assert sidecar["model"]["output_stride"] == 16


def test_the_ending_is_added(convert, tmp_path):
    assert convert(target=tmp_path / "a.b")[0] == 0
    assert left(tmp_path) == ["a.b.json", "a.b.params"]


def test_an_existing_checkpoint_is_kept_unless_forced(convert, tmp_path):
    assert convert()[0] == 0
    before = (tmp_path / "out" / "new.json").read_text()
    (tmp_path / "out" / "new.state").write_bytes(b"of the checkpoint that is replaced")
    code, _, err = convert()
    assert code == 2 and "--force" in err and (tmp_path / "out" / "new.json").read_text() == before
    assert convert("--force", "--data", "cityscapes")[0] == 0
    assert left(tmp_path) == ["out", "out/new.json", "out/new.params"]
    assert Checkpoint(tmp_path / "out" / "new.params").read_sidecar()["data"]["classes"][0] == "road"


def test_what_fits_instead_is_said(convert, tmp_path):
    code, _, err = convert("--backbone", "resnet34", "--nclass", 21)
    assert code == 1 and left(tmp_path) == []
    assert "--backbone resnet18" in err and "--nclass 19" in err and "missing in the file" in err
    assert "(19,) in the file, (21,) in this network" in err or "of another shape" in err


def test_another_network(convert, tmp_path, few_networks):
    code, _, err = convert(model="pspnet")
    assert code == 1 and "--model fcn" in err and left(tmp_path) == []


def test_weights_of_nothing_we_know(convert, tmp_path, few_networks):
    file = write_zip(tmp_path / "f.pth", state_dict({"encoder.weight": np.ones((3, 3), "f4")}))
    code, _, err = convert("--from", "own", file=file)
    assert code == 1 and "0% fits" in err and "--model" in err


def change(arrays, tmp_path, **other):
    changed = {**arrays, **other}
    return write_stream(tmp_path / "changed.pth", state_dict({k: v for k, v in changed.items() if v is not None}))


@pytest.mark.parametrize("name, value, said", [
    ("head.conv2.bias", None, "head.conv2.bias: missing in the file"),
    ("head.conv2.more", np.ones(2, "f4"), "head.conv2.more: not in this network"),
    ("head.conv1.bn.gamma", np.ones(9, "f4"), "head.conv1.bn.gamma: shape (9,) in the file"),
    ("head.conv1.bn.beta", np.full(256, np.nan, "f4"), "NaN"),
])
def test_one_wrong_tensor_and_nothing_is_written(convert, arrays, tmp_path, name, value, said):
    file = change(arrays, tmp_path, **{name: value})
    code, _, err = convert(file=file)
    assert code == 1 and said in err and left(tmp_path) == ["changed.pth"]


def test_damaged_hostile_and_missing_sources(convert, source, tmp_path):
    cut, trace = tmp_path / "cut.pth", tmp_path / "trace"
    cut.write_bytes(source.read_bytes()[:100_000])
    bomb = write_zip(tmp_path / "bomb.pth", {"state_dict": {"w": tensor("0", [1.0])},
                                             "x": Call("os", "system", (f"touch {trace}",))})
    for file, said in ((cut, "damaged"), (bomb, "os.system"), (tmp_path / "none.pth", "not there")):
        code, _, err = convert(file=file)
        assert code == 1 and said in err and str(file) in err
    assert left(tmp_path) == ["bomb.pth", "cut.pth"]


def test_wrong_use(convert, source, tmp_path):
    (tmp_path / "file").touch()
    for options, said in ((["--nclass", 0], "at least 1"), (["--from", "caffe"], "own, mxnetseg"),
                          (["--backbone", "resnet19"], "resnet18"), (["--set", "model.optoins.x=1"], "options"),
                          (["--set", "model.options.widht=1"], "widht"), (["--data", "camvid"], "11; weights.pth: 19"),
                          (["--data", "citiscapes"], "cityscapes")):
        code, _, err = convert(*options)
        assert code == 2 and said in err, err
    for target, said in ((tmp_path, "where a folder is"), (tmp_path / "file" / "x.params", "no checkpoint can be"),
                         (source.with_suffix(".params"), None)):
        code, _, err = convert(target=target)
        assert said is None or code == 2 and said in err, err
    source.with_suffix(".params").unlink()
    source.with_suffix(".json").unlink()
    assert convert(model="fnc")[0] == 2
    assert left(tmp_path) == ["file"]


def test_the_source_is_not_overwritten(convert, arrays, tmp_path):
    mx.nd.save(str(tmp_path / "w.params"), {k: mx.nd.array(v) for k, v in arrays.items()})
    before = (tmp_path / "w.params").read_bytes()
    code, _, err = convert("--force", file=tmp_path / "w.params", target=tmp_path / "w.params")
    assert code == 2 and "overwritten" in err and (tmp_path / "w.params").read_bytes() == before


def test_a_place_that_cannot_be_written(convert, tmp_path, monkeypatch):
    monkeypatch.setattr("mxnetseg.tools.convert.os.access", lambda *_: False)  # root may write everywhere
    code, _, err = convert()
    assert code == 2 and str(tmp_path) in err and left(tmp_path) == []


def test_a_full_disk_leaves_nothing(convert, tmp_path, monkeypatch):
    def full(path, tensors):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("mxnetseg.engine.checkpoint._save", full)
    code, _, err = convert()
    assert code == 1 and "No space left" in err
    assert [p for p in left(tmp_path) if p != "out"] == []


def test_the_help_names_every_form(capsys):
    assert main(["convert", "--help"]) == 0
    out = capsys.readouterr().out
    assert all(form in out for form in FORMS)


def test_eval_scores_it(convert, tmp_path, capsys):
    """On folder data; the file has MXNetSeg's names, which know no backbone."""
    data = tmp_path / "data"
    for folder in ("images", "masks"):
        (data / folder).mkdir(parents=True)
    for name in ("a", "b"):
        Image.fromarray(np.random.randint(0, 255, (40, 48, 3), np.uint8)).save(data / "images" / f"{name}.png")
        Image.fromarray(np.random.randint(0, 3, (40, 48)).astype(np.uint8)).save(data / "masks" / f"{name}.png")
    (data / "classes.txt").write_text("left\nmiddle\nright\n")
    for split in ("train", "val"):
        (data / f"{split}.txt").write_text("a\nb\n")
    net = get_model("fcn", nclass=3)
    mx.nd.save(str(tmp_path / "theirs.params"), {
        name.replace("backbone.", "", 1): p.data() for name, p in net.named_parameters().items()})
    code, out, err = convert("--data", f"folder:{data}", file=tmp_path / "theirs.params")
    assert (code, err) == (0, "") and "MXNetSeg" in out
    assert main(["eval", "--checkpoint", str(tmp_path / "out" / "new.params"), "--save-dir", str(tmp_path / "scores"),
                 "--quiet"]) == 0
    assert "middle" in capsys.readouterr().out


PAGE = (Path(__file__).resolve().parents[2] / "docs" / "convert.md").read_text(encoding="utf-8")


def test_the_page_says_what_the_command_takes():
    commands = re.findall(r"mxnetseg convert ([^`\n]+)", PAGE)
    parser = Parser(prog="mxnetseg convert")
    add_arguments(parser)
    assert len(commands) > 8
    for line in commands:
        args = parser.parse_args(shlex.split(line))
        assert args.model == "NAME" or MODELS.resolve(args.model)
        assert args.form in ("auto", *FORMS)
    settings = dict(map(parse_override, re.findall(r"--set '?([^`'\s]+=(?:\[[^]]*\]|\S+?))'?(?=[`\s])", PAGE)))
    assert settings["model.options.aux_bins"] == [1, 2, 4, 8] and settings["eval.crop_size"] == [512, 1024]
    Config().replace(settings)  # raises for a key that is none
    for key in settings:
        if key.startswith("model.options."):
            assert any(key.split(".")[-1] in model_arguments(name) for name in MODELS.names())


def test_the_page_names_all_forms_and_who_reads_them():
    assert "|".join(FORMS) in PAGE
    for name in MODELS.names():
        if {"from_pytorch", "from_mmseg"} & vars(MODELS.get(name)).keys():
            assert f"`{name}`" in PAGE, name
