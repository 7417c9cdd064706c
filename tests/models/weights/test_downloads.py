"""Downloads that are cut short, continued, started again, or refused, against a server on this machine."""
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from file_server import isolate, served, zipped

from mxnetseg.errors import EnvironmentProblem, UnknownNameError, UsageError
from mxnetseg.models.weights import downloads, gluoncv_zoo
from mxnetseg.models.weights.downloads import GluonCVFile, at_server
from mxnetseg.models.weights.gluoncv_zoo import CHECKPOINTS, REFUSED, Published, find, network_of, published

ROOT = Path(__file__).resolve().parents[3]
DATA = os.urandom(300_000)
FILE = GluonCVFile.of("fcn_resnet50_ade", hashlib.sha1(DATA).hexdigest())
PATH = f"/{FILE.on_server}"


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A home without files, no servers, and one checkpoint with a known checksum: folder of the cache."""
    isolate(monkeypatch, tmp_path)
    monkeypatch.setitem(CHECKPOINTS, "fcn_resnet50_ade", Published(FILE.sha1, 1))
    return tmp_path / "home/models"


@pytest.fixture
def archive(tmp_path):
    return zipped(tmp_path, FILE.member, DATA)


def ranged(content, *, stop=None, ignore=False, asked=None):
    """Answer as a server that sends parts of a file; the first answer breaks off after ``stop`` bytes."""
    state = {"stop": stop}

    def answer(handler):
        wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        first = int(wanted[1]) if wanted and not ignore else 0
        if asked is not None:
            asked.append(wanted and int(wanted[1]))
        if first >= len(content):
            return handler.send_error(416)
        handler.send_response(206 if first else 200)
        if first:
            handler.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        handler.send_header("Content-Length", str(len(content) - first))
        handler.end_headers()
        handler.wfile.write(content[first:state["stop"]])
        state["stop"] = None
    return answer


def test_a_half_download_is_continued(world, archive, monkeypatch):
    half, ranges, seen = len(archive) // 2, [], []
    with served({PATH: ranged(archive, stop=half, asked=ranges)}) as (address, _):
        monkeypatch.setenv("MXNETSEG_MIRROR", address)
        with pytest.raises(EnvironmentProblem, match=f"cut short after {half:,} of"):
            find("fcn_resnet50_ade")
        part = world / f"{FILE.name}.zip.part"
        assert part.read_bytes() == archive[:half] and not (world / FILE.member).exists()
        found = find("fcn_resnet50_ade", lambda *received: seen.append(received))
    assert ranges == [None, half] and seen[0] == (half, len(archive)) and seen[-1] == (len(archive), len(archive))
    assert found == world / FILE.member and found.read_bytes() == DATA
    assert [file.name for file in world.iterdir()] == [FILE.member]


def test_an_interrupt_keeps_what_came(world, archive, monkeypatch):
    def interrupt(received, total):
        if received:
            raise KeyboardInterrupt

    ranges = []
    with served({PATH: ranged(archive, asked=ranges)}) as (address, _):
        monkeypatch.setenv("MXNETSEG_MIRROR", address)
        monkeypatch.setattr(downloads, "_BLOCK", 1000)
        with pytest.raises(KeyboardInterrupt):
            find("fcn_resnet50_ade", interrupt)
        assert find("fcn_resnet50_ade").read_bytes() == DATA
    assert ranges == [None, 1000]


@pytest.mark.parametrize("case", ["the server sends all of it", "its beginning is of another file", "it was complete"])
def test_a_half_download_is_started_again(case, world, archive, monkeypatch):
    world.mkdir(parents=True)
    part = world / f"{FILE.name}.zip.part"
    part.write_bytes(archive if case == "it was complete" else b"x" * 1000 if "another" in case else archive[:1000])
    with served({PATH: ranged(archive, ignore="all" in case)}) as (address, _):
        monkeypatch.setenv("MXNETSEG_MIRROR", address)
        assert find("fcn_resnet50_ade").read_bytes() == DATA
    assert [file.name for file in world.iterdir()] == [FILE.member]


@pytest.mark.parametrize("case", ["wrong checksum", "damaged", "not there", "a web page"])
def test_a_broken_answer_leaves_nothing(case, world, archive, tmp_path, monkeypatch):
    answer = {"wrong checksum": zipped(tmp_path, FILE.member, DATA[:-1] + b"?"),
              "damaged": archive[:5000] + b"????" + archive[5004:], "not there": None,
              "a web page": (b"<html>", {"Content-Type": "text/html"})}[case]
    with served({PATH: answer}) as (address, asked):
        monkeypatch.setenv("MXNETSEG_MIRROR", address)
        with pytest.raises(EnvironmentProblem) as caught:
            find("fcn_resnet50_ade")
    assert asked == [PATH] and address in str(caught.value) and downloads.STORE in str(caught.value)
    for wanted in (FILE.sha1, str(world), "MXNETSEG_MIRROR"):
        assert wanted in caught.value.fix
    assert list(world.iterdir()) == []


def test_caches_come_first_and_damage_is_replaced(world, archive, tmp_path, monkeypatch):
    with served({PATH: archive}) as (address, asked):
        monkeypatch.setenv("MXNET_GLUON_REPO", address + "/")
        gluoncvs = tmp_path / "mxnet/models" / FILE.member
        gluoncvs.parent.mkdir(parents=True)
        gluoncvs.write_bytes(DATA)
        assert find("fcn_resnet50_ade") == gluoncvs and not asked
        gluoncvs.write_bytes(DATA[:-1])
        assert find("fcn_resnet50_ade") == world / FILE.member and asked == [PATH]


def test_a_mirror_may_be_a_folder(world, archive, tmp_path, monkeypatch):
    folder = tmp_path / "mirror"
    target = folder / FILE.on_server
    target.parent.mkdir(parents=True)
    target.write_bytes(archive)
    monkeypatch.setenv("MXNETSEG_MIRROR", folder.as_uri())
    assert find("fcn_resnet50_ade").read_bytes() == DATA


def test_two_processes_download_it_once(world, archive, tmp_path):
    """The second one waits for the first and uses its file."""
    code = ("import sys\nfrom mxnetseg.models.weights.downloads import GluonCVFile, at_server\n"
            f"print(at_server(sys.argv[1], GluonCVFile({FILE.name!r}, {FILE.sha1!r})).fetch())")
    with served({PATH: ranged(archive)}) as (address, asked):
        command = [sys.executable, "-c", code, address]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        outputs = [process.communicate()[0].strip() for process in running]
    assert outputs == [str(world / FILE.member)] * 2 and asked == [PATH]
    assert at_server(address, FILE).fetch().read_bytes() == DATA  # without the server


# ---- GluonCV's list -----------------------------------------------------------------------------


def test_the_table_is_gluoncvs():
    from gluoncv.model_zoo.model_store import _model_sha1
    from gluoncv.model_zoo.model_zoo import _models

    for name, entry in CHECKPOINTS.items():
        assert entry.sha1 == _model_sha1[name]
    methods = ("fcn_", "psp_", "deeplab_", "danet_", "icnet_", "fastscnn_")
    segmenting = {name for name in _models if name.startswith(methods) or re.fullmatch(r"hrnet_.*_s", name)}
    assert segmenting == {*CHECKPOINTS, *REFUSED}
    assert {name for name in _model_sha1 if name.startswith(methods)} <= segmenting
    assert not CHECKPOINTS.keys() & REFUSED.keys() and len(CHECKPOINTS) == 23


@pytest.mark.parametrize("dataset", ["ade20k", "pascalvoc", "coco", "cityscapes"])
def test_the_classes_are_gluoncvs(dataset):
    from gluoncv.data import datasets

    from mxnetseg.data import get_dataset_class

    theirs = datasets[{"pascalvoc": "pascal_voc", "cityscapes": "citys"}.get(dataset, dataset)].CLASSES
    ours = get_dataset_class(dataset).classes
    same = [a == b.split(",")[0] for a, b in zip(ours, theirs)]
    assert len(ours) == len(theirs) and sum(same) / len(same) > 0.75  # others are synonyms
    for name in ("person", "car", "sky", "road"):
        assert name not in ours or ours.index(name) == [word.split(",")[0] for word in theirs].index(name)


def test_every_name_has_its_network():
    from mxnetseg.data import list_datasets
    from mxnetseg.models import list_models
    from mxnetseg.models.backbones import list_backbones

    for name in CHECKPOINTS:
        model, backbone, dataset = network_of(name)
        assert model in list_models() and backbone in list_backbones() and dataset in list_datasets()


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_refused_by_name(name):
    with pytest.raises(UsageError) as caught:
        published(name)
    assert name in str(caught.value.where) and REFUSED[name] in str(caught.value)
    proposed = re.search(r"gluoncv:(\w+)", caught.value.fix)[1]
    assert published(proposed)


def test_a_misspelt_name():
    with pytest.raises(UnknownNameError, match="fcn_resnet50_ade"):
        gluoncv_zoo.published("fcn_resnet50_ad")
