"""Write a checkpoint as the network that comes with the package: float16, with its ONNX form and a model card.

    python scripts/include_network.py CKPT --license TEXT --notes NOTES.md --images FOLDER

The files go to mxnetseg/included/ (``--out`` and ``--name`` choose others): NAME.params and NAME.json are a checkpoint,
NAME.onnx is the same network for backends without MXNet, README.md is the model card. Both forms are compared with the
checkpoint on the images. Nothing is written if too many of their pixels get another class, or if a file is too large.
"""
from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the working tree, whether or not it is installed

import mxnetseg  # noqa: E402, F401  (before mxnet)

MEGABYTES = 12  # largest .params file
SMALLEST = 1 << 10  # numbers; smaller tensors of the ONNX form stay float32


def main(argv=None) -> int:
    from mxnetseg.errors import MXNetSegError

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", metavar="CKPT")
    parser.add_argument("--license", required=True, metavar="TEXT", help="terms of the weights and of their data")
    parser.add_argument("--notes", type=Path, metavar="FILE",
                        help="Markdown for the card: recipe, seeds, known failures")
    parser.add_argument("--images", type=Path, required=True, metavar="FOLDER", help="images to compare both forms on")
    parser.add_argument("--tolerance", type=float, default=0.002, metavar="X", help="largest fraction of pixels with "
                        "another class (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "mxnetseg/included", metavar="DIR")
    parser.add_argument("--name", default="network")
    args = parser.parse_args(argv)
    try:
        include(args)
    except MXNetSegError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def include(args: argparse.Namespace) -> None:
    """Write the files to a temporary folder, check them there, and copy them."""
    import mxnet as mx

    from mxnetseg.backends.package import NetworkPackage
    from mxnetseg.engine.checkpoint import Checkpoint, restore_network
    from mxnetseg.errors import CheckpointError
    from mxnetseg.export.formats import ExportOptions
    from mxnetseg.export.model_card import model_card
    from mxnetseg.export.onnx_format import onnx_model
    from mxnetseg.export.plain_formats import without_folders

    net, sidecar = restore_network(Checkpoint(args.checkpoint), [mx.cpu()])
    package = NetworkPackage.of_network(net, {**without_folders(sidecar), "license": args.license})
    record = {key: value for key, value in package.sidecar.items() if key not in ("mxnet", "mxnetseg", "written")}

    with tempfile.TemporaryDirectory() as folder:
        params, onnx = (Path(folder) / f"{args.name}{ending}" for ending in (".params", ".onnx"))
        checkpoint = Checkpoint(params)
        checkpoint.write_half(net, record)
        onnx.write_bytes(store_in_half(onnx_model(package, ExportOptions())).SerializeToString())
        address = "included" if args.name == "network" else f"{args.name}.params"
        notes = args.notes.read_text(encoding="utf-8") if args.notes else ""
        (Path(folder) / "README.md").write_text(
            model_card(package.record, args.name, address=address, notes=notes), encoding="utf-8")

        size = params.stat().st_size / 1e6
        if size > MEGABYTES:
            raise CheckpointError("the network is too large to come with the package", where=args.checkpoint,
                                  received=f"{size:.1f} MB in float16", fix=f"at most {MEGABYTES} MB")
        for path in (params, onnx):
            changed = fraction_that_changes(Path(args.checkpoint), path, args.images)
            print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB, "
                  f"{100 * changed:.3f} % of the pixels get another class")
            if not changed <= args.tolerance:
                raise CheckpointError("the smaller form computes something else", where=path.name,
                                      received=f"{changed:.4f} of the pixels get another class",
                                      fix="find the layer that float16 cannot hold, or raise --tolerance")
        args.out.mkdir(parents=True, exist_ok=True)
        for path in sorted(Path(folder).iterdir()):
            shutil.copy(path, args.out / path.name)
            print(args.out / path.name)


def store_in_half(model):
    """Return an ONNX model whose large weights are stored in float16 and cast to float32 when it is loaded."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for value in model.graph.initializer:
        array = numpy_helper.to_array(value)
        if value.data_type != TensorProto.FLOAT or array.size < SMALLEST or np.abs(array).max() > 65504:
            continue
        stored = f"{value.name}_float16"
        casts.append(helper.make_node("Cast", [stored], [value.name], name=f"{value.name}_cast", to=TensorProto.FLOAT))
        value.CopyFrom(numpy_helper.from_array(array.astype(np.float16), stored))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def fraction_that_changes(checkpoint: Path, other: Path, folder: Path) -> float:
    """Return the fraction of the pixels of a folder's images that get another class."""
    from mxnetseg import Predictor
    from mxnetseg.data.base import IMAGE_SUFFIXES
    from mxnetseg.errors import DataNotFoundError

    files = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        raise DataNotFoundError("the folder holds no image", where=folder, fix="name a folder with images")
    exact, smaller = Predictor(checkpoint), Predictor(other)
    pairs = [(exact(file).class_map, smaller(file).class_map) for file in files]
    return float(sum((a != b).sum() for a, b in pairs) / sum(a.size for a, _ in pairs))


if __name__ == "__main__":
    sys.exit(main())
