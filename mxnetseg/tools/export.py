"""``mxnetseg export``: write a network in a format that other programs run, and check what was written."""
from __future__ import annotations

import math
from argparse import ArgumentTypeError, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import add_weights_argument, choose_checkpoint, whole_number

if TYPE_CHECKING:
    import numpy as np

    from ..backends.package import NetworkPackage
    from ..export.verification import Reference
    from .main import Parser

# copies of the names in export.formats, since importing it would load NumPy before --help; a test compares them
FORMATS = ("hub", "mxnet", "onnx", "openvino", "repository", "torch")
PRECISIONS = ("float32", "float16", "int8")
_CALIBRATION = 16  # images


def add_arguments(parser: Parser) -> None:
    """Declare the command's arguments."""
    parser.intermixed = True
    parser.add_argument("source", nargs="?", metavar="CKPT", help="checkpoint, or a file name below --weights; "
                        "gluoncv:NAME, hub:USER/NAME or included; or an earlier export as hub (its folder) or mxnet "
                        "(its -symbol.json)")
    parser.add_argument("target", type=Path, metavar="DST", help="file or folder to write, which must not exist")
    parser.add_argument("--format", metavar="FORMAT", help=f"{', '.join(FORMATS)} (default: that of DST's ending: "
                        ".onnx, .pt2 for torch, .xml for openvino, -symbol.json for mxnet)")
    parser.add_argument("--input", choices=("float32", "uint8"), help="float32: normalised (N, 3, H, W) gives logits; "
                        "uint8: images (N, H, W, 3), RGB, give class maps (default: float32; for a repository uint8)")
    parser.add_argument("--size", nargs=2, type=whole_number(), metavar=("H", "W"),
                        help="the only size that the file accepts (default: any size)")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32",
                        help="number format of the weights (default: %(default)s)")
    parser.add_argument("--images", nargs="+", type=Path, metavar="PATH",
                        help=f"images or folders to calibrate int8 on; {_CALIBRATION} are used")
    parser.add_argument("--tolerance", type=_tolerance, metavar="X", help="largest difference from the source that is "
                        "accepted, as a fraction of the largest output (default: that of the format)")
    parser.add_argument("--scores", type=Path, metavar="FILE",
                        help="scores.json of `mxnetseg eval`, to record (default: the scores in the checkpoint)")
    parser.add_argument("--license", metavar="TEXT", help="terms of the weights, to record")
    add_weights_argument(parser)

    group = parser.add_argument_group("any MXNet model, instead of CKPT")
    group.add_argument("--symbol", type=Path, metavar="FILE", help="its -symbol.json file")
    group.add_argument("--params", type=Path, metavar="FILE", help="its .params file")
    group.add_argument("--inputs", nargs="+", metavar="NAME", help="names of its inputs (default: data)")
    group.add_argument("--mean", nargs=3, type=float, metavar=("R", "G", "B"),
                       help="mean of pixels in [0, 1] that its images are normalised with")
    group.add_argument("--std", nargs=3, type=float, metavar=("R", "G", "B"), help="their standard deviation")
    group.add_argument("--classes", type=Path, metavar="FILE", help="names of its classes, one a line")


def run(args: Namespace) -> int:
    """Export the network; return 0."""
    from ..export.formats import ExportOptions, export_network, format_of

    name = format_of(args.target, args.format)
    _check_source(args)
    package, reference = _package(args, name)
    package = _described(package, args)
    input_type = args.input or ("uint8" if name == "repository" and package.record.mean is not None else "float32")
    options = ExportOptions(input_type=input_type, size=tuple(args.size) if args.size else None,
                            precision=args.precision, tolerance=args.tolerance, calibration=_images(args))
    if args.images and args.precision != "int8":
        _refuse("--images", "calibrates int8 only", "add --precision int8, or leave it out")

    print(f"source      {_source(args)}: {_network(package)}\n"
          f"format      {name}, {options.precision}, {_interface(options)}", flush=True)
    export = export_network(package, args.target, name, options, reference)
    for shape in dict.fromkeys(comparison.shape for comparison in export.comparisons):
        worst = max((c for c in export.comparisons if c.shape == shape), key=lambda c: c.difference)
        print(f"checked     {'x'.join(map(str, shape))}: {worst.difference:.2g} {worst.unit}")
    print(f"tolerance   {export.tolerance:g}, against {reference.name}, in {' and '.join(export.readers)}")
    if args.precision == "int8":
        print("note        int8 changes scores: compare `mxnetseg eval` of both")
    for noun, value, options_for in (("classes", package.record.classes, "--classes"),
                                     ("mean and deviation", package.record.mean, "--mean, --std")):
        if value is None:
            print(f"note        {noun} are not recorded ({options_for})")
    for path in export.paths:
        print(f"written     {path}{_size(path)}")
    return 0


# ---- the source -----------------------------------------------------------------------------


def _check_source(args: Namespace) -> None:
    """Refuse contradicting options before anything is read."""
    if args.symbol is None and args.params is None and args.source is None:
        _refuse("CKPT", "a source is missing", "mxnetseg export CKPT DST, or --symbol FILE --params FILE DST")
    if (args.symbol is None) != (args.params is None):
        _refuse("--symbol and --params", "a model of MXNet has two files", "give both")
    if args.symbol is not None and args.source is not None:
        _refuse("CKPT and --symbol", f"two sources are given: {args.source} and {args.symbol}", "leave one out")
    foreign = {"--inputs": args.inputs, "--mean": args.mean, "--std": args.std, "--classes": args.classes}
    for option, value in foreign.items():
        if value is not None and args.symbol is None:
            _refuse(option, "a checkpoint records it", f"leave {option} out, or give --symbol and --params")
    if (args.mean is None) != (args.std is None):
        _refuse("--mean and --std", "images are normalised with both", "give both, or neither")
    for option in ("mean", "std"):
        for value in getattr(args, option) or ():
            if not math.isfinite(value) or abs(value) > 1e6 or option == "std" and value <= 0:
                _refuse(f"--{option}", f"{value} is no {'deviation' if option == 'std' else 'mean'}",
                        "numbers for pixels in [0, 1], such as --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225")


def _package(args: Namespace, format_name: str) -> tuple[NetworkPackage, Reference]:
    """Return the network, and the function that an export is compared with."""
    from .._compat import import_optional
    from ..backends.package import SYMBOL, NetworkPackage, read_package
    from ..engine.named import is_name, locate
    from ..export.references import reference_of
    from ..export.verification import Reference

    if args.symbol is not None:
        package = NetworkPackage.of_files(args.symbol, args.params, inputs=args.inputs or ("data",),
                                          sidecar=_foreign_sidecar(args))
        return package, reference_of(package)
    source = locate(args.source, backend="mxnet").network if is_name(args.source) else args.source
    if isinstance(source, (str, Path)) and (Path(source).is_dir() or str(source).endswith(SYMBOL)):
        package = read_package(source)
        return package, reference_of(package)

    mx = import_optional("mxnet", "a checkpoint", fix="export it where MXNet is installed, as hub, whose folder this "
                         "command reads without MXNet")

    from ..engine.network import restore

    net, sidecar, _ = restore(choose_checkpoint(source, args.weights) if isinstance(source, str) else source)
    package = NetworkPackage.of_network(net, sidecar, all_parameters=format_name == "hub")
    return package, Reference(f"MXNet {mx.__version__}", lambda x: [net(mx.nd.array(x))[0].asnumpy()])


def _foreign_sidecar(args: Namespace) -> dict[str, Any]:
    """Return the sections of a sidecar that the options give."""
    from ..data.base import IGNORE
    from ..viz.palette import class_palette

    sidecar: dict[str, Any] = {}
    if args.mean is not None:
        sidecar["normalisation"] = {"mean": args.mean, "std": args.std}
    if args.classes is not None:
        classes = _class_names(args.classes)
        sidecar["data"] = {"name": "unknown", "classes": classes, "palette": class_palette(classes).tolist(),
                           "ignore": IGNORE, "raw_ids": None}
    return sidecar


def _class_names(path: Path) -> list[str]:
    from .._description import Violation, check_data
    from ..errors import UsageError
    from ..files import open_regular

    with open_regular(path, "the list of classes", UsageError) as file:
        data = file.read(1 << 20)
    try:
        names = [line.strip() for line in data.decode("utf-8-sig").splitlines() if line.strip()]
        check_data({"name": "unknown", "classes": names, "palette": [[0, 0, 0]] * len(names), "ignore": 255})
    except UnicodeDecodeError:
        raise UsageError("the list of classes is not UTF-8", where=path, fix="save it as UTF-8") from None
    except Violation as violation:
        raise UsageError("the list of classes has a wrong line", where=path, received=violation.args[2],
                         fix=f"{violation.args[0]}: {violation.args[1]}") from None
    return names


def _described(package: NetworkPackage, args: Namespace) -> NetworkPackage:
    """Return the package with the scores and the licence to record."""
    from dataclasses import replace

    sidecar = dict(package.sidecar)
    if args.scores is not None:
        sidecar["metrics"] = _scores(args.scores, package)
    sidecar["license"] = args.license or sidecar.get("license") or _licence_of_data(sidecar)
    return replace(package, sidecar=sidecar)


def _scores(path: Path, package: NetworkPackage) -> dict[str, Any]:
    """Return the scores that ``mxnetseg eval`` wrote, if they belong to this network."""
    from .._description import MOST_BYTES, parse_object
    from ..errors import UsageError, reason
    from ..files import open_regular

    with open_regular(path, "the file of scores", UsageError) as file:
        data = file.read(MOST_BYTES + 1)
    try:
        scores = parse_object(data)
        classes = [entry["name"] for entry in scores["classes"]]
        if not isinstance(scores["miou"], (int, float)):
            raise ValueError("miou is no number")
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError("the file holds no scores", where=path, received=reason(error),
                         fix="scores.json of `mxnetseg eval`") from None
    if package.record.classes is not None and tuple(classes) != package.record.classes:
        raise UsageError("the scores belong to another network", where=path, received=f"{len(classes)} classes: "
                         f"{', '.join(map(str, classes[:5]))}, ...", fix="evaluate this checkpoint")
    return scores


def _licence_of_data(sidecar: Mapping[str, Any]) -> str:
    """Return what is known of the terms of the weights: those of the data that they were trained on."""
    if "data" not in sidecar:
        return "not recorded"
    from ..data import get_dataset_class
    from ..errors import UnknownNameError

    name = sidecar["data"]["name"]
    try:
        licence = get_dataset_class(name).licence
    except UnknownNameError:  # the user's own data
        licence = ""
    return f"not stated for the weights; training data {name}: {licence or 'not recorded'}"


def _images(args: Namespace) -> list[np.ndarray]:
    """Return the images to calibrate int8 on."""
    if not args.images or args.precision != "int8":
        return []
    from ..data.base import IMAGE_SUFFIXES, read_image
    from ..errors import DataNotFoundError

    files = [file for path in args.images for file in (sorted(path.iterdir()) if path.is_dir() else [path])
             if not path.is_dir() or file.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        raise DataNotFoundError("the folder holds no image", where=args.images[0], fix="name a folder with images")
    step = max(1, len(files) // _CALIBRATION)  # spread over the folder, whose neighbours may be alike
    return [read_image(file) for file in files[::step][:_CALIBRATION]]


# ---- output ---------------------------------------------------------------------------------


def _source(args: Namespace) -> str:
    return f"{args.symbol}, {args.params}" if args.symbol is not None else str(args.source)


def _network(package: NetworkPackage) -> str:
    model = package.sidecar.get("model")
    parameters = sum(array.size for array in package.arrays.values())
    named = f"{model['name']} on {model.get('backbone', 'its default backbone')}" if model else "a model of MXNet"
    classes = "" if package.record.classes is None else f", {len(package.record.classes)} classes"
    return f"{named}{classes}, {parameters / 1e6:.2f} M numbers"


def _interface(options: Any) -> str:
    size = "any size" if options.size is None else f"{options.size[0]}x{options.size[1]} only"
    if options.input_type == "uint8":
        return f"uint8 images (N, H, W, 3) to class maps, {size}"
    return f"normalised float32 (N, 3, H, W) to logits, {size}"


def _size(path: Path) -> str:
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return f" ({sum(file.stat().st_size for file in files) / 1e6:.1f} MB)"


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise ArgumentTypeError(f"must be a number between 0 and 1 | received: {text}")
    return value


def _refuse(where: str, what: str, fix: str) -> None:
    from ..errors import UsageError

    raise UsageError(what, where=where, fix=fix)
