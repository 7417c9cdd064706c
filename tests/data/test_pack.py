"""Packs: they return the data that was packed, report every damage, and are never written in part."""
import numpy as np
import pytest

from mxnetseg.data import get_dataset
from mxnetseg.data.loader import Loader
from mxnetseg.data.pack import PackDataset, write_pack
from mxnetseg.data.transforms import train_transform
from mxnetseg.errors import DataError, DataNotFoundError, UnknownNameError
from mxnetseg.tools.main import main


@pytest.fixture
def packed(folder, tmp_path):
    """Folder data with ten pairs, and its packs beside it."""
    target = tmp_path / "packs"
    assert main(["pack", str(folder), str(target), "--quiet"]) == 0
    return folder, target


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_sample_is_the_same(packed, split):
    source, pack = get_dataset(str(packed[0]), split=split), get_dataset(f"pack:{packed[1]}", split=split)
    assert len(pack) == len(source) > 0
    for a, b in zip(source, pack):
        assert a.name == b.name and np.array_equal(a.image, b.image) and np.array_equal(a.mask, b.mask)
    assert pack.info() == source.info() and pack.classes == source.classes


def test_raw_ids_are_kept(camvid, tmp_path):
    source = get_dataset("camvid", root=camvid, split="train")
    write_pack(source, tmp_path / "packs" / "train.pack")
    pack = PackDataset(root=tmp_path / "packs")
    assert pack.info() == source.info() and pack.name == source.name
    for a, b in zip(source, pack):
        assert np.array_equal(a.mask, b.mask) and np.array_equal(source.to_raw_ids(a.mask), pack.to_raw_ids(b.mask))


def test_the_loader_gives_the_same_batches(packed):
    def batches(name, workers):
        loader = Loader(get_dataset(name), batch_size=3, transform=train_transform(base_size=16, crop_size=12), seed=4,
                        workers=workers)
        return [(b.images.tobytes(), b.masks.tobytes(), b.names) for b in loader.epoch(1)]

    assert batches(str(packed[0]), 0) == batches(f"pack:{packed[1]}", 0) == batches(f"pack:{packed[1]}", 3)


def test_a_split_without_labels(folder, tmp_path, write):
    (folder / "test.txt").write_text("b\n")
    (folder / "train.txt").write_text("a1\n")
    write(folder / "images" / "b.png")
    write_pack(get_dataset(str(folder), split="test"), tmp_path / "packs" / "test.pack")
    pack = PackDataset(root=tmp_path / "packs", split="test")
    assert pack[0].mask is None and pack.mask_path(0) is None
    assert np.array_equal(pack[0].image, get_dataset(str(folder), split="test")[0].image)


def test_a_damaged_source_leaves_nothing_and_the_old_pack_stays(packed):
    source, target = packed
    before = (target / "train.pack").read_bytes()
    dataset = get_dataset(str(source))
    dataset.mask_path(len(dataset) - 1).write_bytes(b"damaged")
    assert main(["pack", str(source), str(target), "--force", "--quiet"]) == 1
    assert (target / "train.pack").read_bytes() == before
    assert sorted(p.name for p in target.iterdir()) == ["train.pack", "val.pack"]


def test_an_interruption_leaves_nothing(folder, tmp_path):
    def stop(items, count):
        for i, item in enumerate(items):
            if i == 3:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        write_pack(get_dataset(str(folder)), tmp_path / "packs" / "train.pack", stop)
    assert list((tmp_path / "packs").iterdir()) == []


def test_every_damaged_byte_is_found(packed, capsys):
    path = packed[1] / "train.pack"
    whole = path.read_bytes()
    places = np.random.default_rng(0).integers(8, len(whole), 60)  # the first eight bytes are not read
    for at in [*places.tolist(), len(whole) - 1, len(whole) - 12, len(whole) - 40]:
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(DataError):
            pack = PackDataset(root=packed[1])
            for i in range(len(pack)):
                pack[i]
    for length in (0, 7, 50, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match="cut off|checksum"):
            PackDataset(root=packed[1])
    assert main(["pack", f"pack:{packed[1]}", "--verify", "--quiet"]) == 1
    assert "make the pack again" in capsys.readouterr().err
    path.write_bytes(whole)
    assert main(["pack", f"pack:{packed[1]}", "--verify", "--quiet"]) == 0
    assert f"{path}: 9 items, whole" in capsys.readouterr().out


def test_a_message_names_the_pack_and_the_item(packed):
    path = packed[1] / "train.pack"
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    pack = PackDataset(root=packed[1])
    with pytest.raises(DataError) as error:
        next(Loader(pack, batch_size=1, shuffle=False, workers=2,
                    transform=train_transform(base_size=16, crop_size=12)).epoch(0))
    assert error.value.where == path / pack.pair(0).name


def test_existing_packs_are_kept_without_force(packed, capsys):
    stamp = (packed[1] / "train.pack").stat().st_mtime_ns
    assert main(["pack", str(packed[0]), str(packed[1]), "--split", "train"]) == 0
    assert "--force" in capsys.readouterr().out and (packed[1] / "train.pack").stat().st_mtime_ns == stamp
    assert main(["pack", str(packed[0]), str(packed[1]), "--split", "train", "--force", "--quiet"]) == 0
    assert (packed[1] / "train.pack").stat().st_mtime_ns != stamp


def test_crops_of_a_pack_are_drawn(packed, tmp_path):
    assert main(["browse", f"pack:{packed[1]}", "--out", str(tmp_path / "sheet"), "--count", "2", "--quiet"]) == 0
    assert any((tmp_path / "sheet").iterdir())


def test_wrong_use(packed, tmp_path, capsys):
    for arguments in (["pack", str(packed[0])], ["pack", str(packed[0]), "--verify"],
                      ["pack", f"pack:{packed[1]}", str(tmp_path), "--verify"]):
        assert main(arguments) == 2 and "fix:" in capsys.readouterr().err
    assert main(["check-data", f"pack:{packed[1]}"]) == 2 and "--verify" in capsys.readouterr().err
    with pytest.raises(DataNotFoundError, match="no packs"):
        get_dataset(f"pack:{tmp_path / 'nothing'}")
    with pytest.raises(UnknownNameError, match="'test'"):
        get_dataset(f"pack:{packed[1]}", split="test")


def test_a_name_that_leaves_the_folder_is_refused(folder, tmp_path):
    dataset = get_dataset(str(folder))
    dataset._pairs[0] = dataset.pair(0)._replace(name="../../x")
    write_pack(dataset, tmp_path / "packs" / "train.pack")
    with pytest.raises(DataError, match="no path below a folder") as error:
        PackDataset(root=tmp_path / "packs")
    assert error.value.received == "../../x"


def test_packs_below_the_home_folder(packed, monkeypatch):
    monkeypatch.setenv("HOME", str(packed[1].parent))
    assert get_dataset("pack:~/packs").nclass == 3
