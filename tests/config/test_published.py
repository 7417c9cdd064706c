"""Configurations in configs/: each is valid, and its network has as many parameters as published."""
import re
import shlex

import pytest
import yaml

from mxnetseg.config import configs_dir, list_configs, load_config
from mxnetseg.config.schema import flat
from mxnetseg.data import DATASETS
from mxnetseg.engine.checkpoint import model_record
from mxnetseg.models import build_model, list_models
from mxnetseg.models._cost import measure
from mxnetseg.tools import train
from mxnetseg.tools.main import Parser

# name -> classes, published millions of parameters with running statistics and without auxiliary heads (None if the
# table has no such column), network, backbone
MXNETSEG = {
    "silver-brook-24": (19, 13.2, "bisenet", "resnet18"),
    "effortless-dust-25": (19, 13.2, "bisenet", "resnet18"),
    "fcn-resnet18-os32-cityscapes": (19, 12.4, "fcn", "resnet18"),
    "pretty-surf-1": (19, 12.4, "fcn", "resnet18"),
    "fcn-resnet101-cityscapes": (19, 47.5, "fcn", "resnet101"),
    "pspnet-resnet101-cityscapes": (19, 56.4, "pspnet", "resnet101"),
    "deeplabv3-resnet101-cityscapes": (19, 58.9, "deeplabv3", "resnet101"),
    "neapolitan-pastry-1": (19, 69.4, "denseaspp", "resnet101"),
    "danet-resnet101-cityscapes": (19, 66.7, "danet", "resnet101"),
    "pspnet-resnet101-ade20k": (150, None, "pspnet", "resnet101"),
    "glad-voice-1": (21, None, "fcn", "resnet101"),
    "peachy-snow-4": (21, None, "att2scale", "resnet101"),
    "smart-valley-12": (21, None, "pspnet", "resnet101"),
    "fearless-firefly-5": (21, None, "deeplabv3", "resnet101"),
    "robust-pine-18": (21, None, "deeplabv3plus", "resnet101"),
    "hopeful-snowflake-1": (40, None, "fcn", "resnet101"),
    "grateful-vortex-8": (40, None, "pspnet", "resnet101"),
    "comfy-dew-31": (40, None, "deeplabv3plus", "resnet101"),
}
# name -> classes, published millions as PyTorch counts, without running statistics, exact number of the original
PYTORCH = {
    "flattenet-ppm-pascalcontext": (59, "49.7", 49_694_775),
    "flattenet-attention-pascalcontext": (59, "48.4", 48_387_127),
    "flattenet-ppm-voc": (21, "49.7", 49_655_787),
    "flattenet-attention-voc": (21, "48.3", 48_348_139),
    "flattenet-attention-voc-coco": (21, "48.3", 48_348_139),
    "sfnet-resnet18-cityscapes": (19, "12.87", 12_869_715),
    "sfnet-resnet18-dsn-cityscapes": (19, "13.32", 13_320_204),
    "sfnet-resnet50-cityscapes": (19, "31.33", 31_325_139),
    "sfnet-resnet101-cityscapes": (19, "50.32", 50_317_267),
    "acfnet-ecaresnet101-cityscapes": (19, None, 108_992_348),
    "hrnet-w48-cityscapes": (19, None, 65_859_379),  # published as 65.8, which is truncated
    "ovenet-w48-cityscapes": (19, None, 98_795_926),
    "ovenet-w48-acdc": (19, None, 98_795_926),
}
# rows without a published count, and the first stages of other rows -> classes
OTHERS = {"acfnet-resnet101-cityscapes": 19, "acfnet-ecaresnet101-cityscapes": 19,
          "flattenet-ppm-vocaug": 21, "flattenet-attention-vocaug": 21,
          "flattenet-attention-coco": 21}


# recipe of docs/results.md -> M parameters, auxiliary head included
OURS = {"camvid-imagenet": 3.92, "camvid-imagenet-fine": 3.92, "camvid-fast": 3.92, "camvid-robust": 3.77,
        "camvid-robust-fine": 3.77, "camvid-scratch": 5.75, "camvid-scratch-fine": 5.75}


def network(name, nclass):
    config = load_config(name)
    dataset = DATASETS.get(config.data.name)
    assert len(dataset.classes) == nclass
    assert {config.data.train_split, config.data.val_split} <= set(dataset.splits)
    return build_model(**model_record(config.model, nclass)), config


@pytest.mark.parametrize("name", MXNETSEG)
def test_rows_of_mxnetseg(name):
    nclass, millions, model, backbone = MXNETSEG[name]
    net, config = network(name, nclass)
    assert (net.model_name, net.backbone_name, config.model.aux) == (model, backbone, False)
    count = measure(net, (64, 64)).count()
    assert millions is None or round(count / 1e6, 1) == millions


@pytest.mark.parametrize("name", PYTORCH)
def test_rows_of_the_pytorch_originals(name):
    nclass, millions, exact = PYTORCH[name]
    net, _ = network(name, nclass)
    assert measure(net, (64, 64)).count(trainable=True) == exact
    assert millions is None or f"{exact / 1e6:.{len(millions.split('.')[1])}f}" == millions


@pytest.mark.parametrize("name", OTHERS)
def test_rows_without_a_count(name):
    assert measure(network(name, OTHERS[name])[0], (64, 64)).count() > 1e6


def test_every_configuration_is_a_row_or_the_default_of_a_network():
    assert set(list_configs()) == {*MXNETSEG, *PYTORCH, *OTHERS, *OURS, *list_models(), "demo"}


@pytest.mark.parametrize("name", OURS)
def test_our_recipes_are_in_the_results(name):
    config = load_config(name)
    net = build_model(**model_record(config.model, 11))
    assert round(measure(net, (64, 64)).count() / 1e6, 2) == OURS[name]
    page = (configs_dir().parent / "docs" / "results.md").read_text(encoding="utf-8")
    assert f"| `{name}`" in page and f"--config {name} " in page


@pytest.mark.parametrize("name", [*MXNETSEG, *PYTORCH, *OTHERS])
def test_every_row_explains_its_learning_rate(name):
    text = (configs_dir() / f"{name}.yaml").read_text(encoding="utf-8").replace("\n# ", " ")
    assert re.search(r"lr and wd|lr \S+ acted as|The rate is", text), "explain how lr and wd were translated"
    assert re.search(r"not reproduced|no figure was published|stage of training", text), "name the source of the figure"


def test_the_page_of_configurations_names_every_row():
    page = (configs_dir().parent / "docs" / "configurations.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")][1:]
    stages = {name for name in OTHERS if name.startswith("flattenet")}
    assert set(rows) == {*MXNETSEG, *PYTORCH, *OTHERS} - stages and all(name in page for name in stages)


def test_the_sweep_uses_existing_options():
    sweep = yaml.safe_load((configs_dir() / "sweep.yml").read_text(encoding="utf-8"))
    low = {key: value["values"][1] if "values" in value else value["min"] for key, value in sweep["parameters"].items()}
    drawn = [f"--{key}={value}" for key, value in low.items()]  # as wandb's agent writes them
    words = [word for part in sweep["command"][3:] for word in (drawn if part == "${args}" else shlex.split(part))]
    assert sweep["command"][:3] == ["${env}", "${interpreter}", "${program}"]
    parser = Parser(prog=sweep["program"])
    train.add_arguments(parser)
    config, _ = train._configuration(parser.parse_args(words))
    assert {key: flat(config.to_dict())[key] for key in low} == low
    assert sweep["metric"] == {"name": "val_miou", "goal": "maximize"}  # its name in the trainer's rows
    assert (configs_dir().parent / sweep["program"]).is_file()
