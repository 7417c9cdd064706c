"""Copy the golden data of the registered networks: python make_goldens.py COLLECTION/mxnetseg.

COLLECTION/mxnetseg holds ``cases.json``, ``params.json.gz`` and one ``.npz`` file per case, see README.md in this
folder. Run the command again after registering a network with ``mxnetseg_classes``; it removes files that are no longer
needed.
"""
import argparse
import gzip
import json
import shutil
from pathlib import Path

from mxnetseg.models import MODELS, list_models

LARGEST = 300_000  # bytes; larger files do not belong in a repository
HERE = Path(__file__).resolve().parent / "mxnetseg"


def needed(case, classes, source):
    """Return whether a case belongs to a registered network and is small."""
    return case["model"] in classes and (source / case["file"]).stat().st_size <= LARGEST


def write_json(path, value):
    """Write the same bytes for the same value, so that a second run changes nothing."""
    text = json.dumps(value, indent=1 if path.suffix == ".json" else None) + "\n"
    data = text.encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder with cases.json, params.json.gz and the .npz files")
    source = parser.parse_args().source

    whole = json.loads((source / "cases.json").read_text())
    classes = {name for model in list_models() for name in MODELS.get(model).mxnetseg_classes}
    cases = [case for case in whole["cases"] if needed(case, classes, source)]
    params = json.loads(gzip.decompress((source / "params.json.gz").read_bytes()))
    keys = sorted({case["params_key"] for case in cases})

    HERE.mkdir(exist_ok=True)
    write_json(HERE / "cases.json", {**whole, "cases": cases})
    write_json(HERE / "params.json.gz", {key: params[key] for key in keys})
    wanted = {case["file"] for case in cases}

    for name in wanted:
        shutil.copyfile(source / name, HERE / name)
    for stale in HERE.glob("*.npz"):
        if stale.name not in wanted:
            stale.unlink()

    size = sum(file.stat().st_size for file in HERE.iterdir())
    print(f"{len(cases)} cases of {len(classes)} classes, {size / 1e6:.2f} MB in all")


if __name__ == "__main__":
    main()
