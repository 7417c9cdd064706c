"""``mxnetseg merge``: join the results of ``eval --shard`` or ``predict --shard``."""
from __future__ import annotations

import logging
import shutil
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..report.partial import Partial
    from ._predict_results import Manifest

log = logging.getLogger(__name__)

_SCORES, _RESULTS = ".npz", ".jsonl"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE|FOLDER",
                        help="the files that `mxnetseg eval --shard` or `mxnetseg predict --shard` wrote, or the "
                             "folder that holds them")
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="folder for the scores (default: the folder of the evaluation)")


def run(args: Namespace) -> int:
    """Join the parts; return 0, or 1 if a part lists images that could not be predicted."""
    from ..errors import UsageError

    files = [file for named in args.files for file in _files(named)]
    suffixes = sorted({file.suffix for file in files})
    if suffixes == [_SCORES]:
        return _merge_scores(files, args.out)
    if suffixes == [_RESULTS]:
        if args.out is not None:
            raise UsageError("results of predictions are joined where they are", received=f"--out {args.out}",
                             fix="leave --out out")
        return _merge_predictions(files)
    raise UsageError("only parts of evaluations (.npz), or only lists of predictions (.jsonl), can be joined",
                     received=", ".join(map(str, files[:4])), fix="name the files of one evaluation or prediction")


def _files(named: Path) -> list[Path]:
    """Return the files of parts that a file or folder stands for."""
    from ..errors import UsageError
    from ..report.partial import FOLDER
    from ._predict_results import MANIFEST

    if not named.is_dir():
        return [named]
    inner = named if named.name == FOLDER else named / FOLDER
    found = [*sorted(inner.glob(f"*-of-*{_SCORES}")), *sorted(named.glob(f"{MANIFEST}-*-of-*{_RESULTS}"))]
    if not found:
        raise UsageError("the folder holds no part of an evaluation or prediction", where=named.absolute(),
                         fix="name the folder that `mxnetseg eval --shard` or `mxnetseg predict --shard` printed")
    return found


def _check_parts(files: Sequence[Path], shards: Sequence[tuple[int, int]],
                 differences: Callable[[int], list[str]]) -> None:
    """Refuse parts that are missing, doubled, or of another whole.

    Args:
        files: one of each part.
        shards: number, from 0, and count of each.
        differences: returns in what part ``i`` differs from the first.
    """
    from ..errors import UsageError

    count = shards[0][1]
    for i, (file, shard) in enumerate(zip(files, shards)):
        changed = differences(i) if shard[1] == count else [f"number of parts: {count} -> {shard[1]}"]
        if changed:
            raise UsageError("a part belongs to something else", where=f"{files[0]}\n{file}",
                             received="\n".join(changed), fix="name the parts of one run; remove the files of others")
        first = shards.index(shard)
        if first < i:
            raise UsageError(f"part {shard[0] + 1}/{count} is there twice", where=f"{files[first]}\n{file}",
                             fix="name it once")
    missing = sorted(set(range(count)) - {shard[0] for shard in shards})
    if missing:
        named = ", ".join(f"{i + 1}/{count}" for i in missing)
        raise UsageError(f"parts are missing: {named}", where=files[0].parent.absolute(),
                         received=f"{len(files)} of {count}", fix=f"run the same command with --shard {missing[0] + 1}/"
                         f"{count}, then merge again")


def _merge_scores(files: Sequence[Path], out: Path | None) -> int:
    from ..report.partial import FOLDER, read_partial
    from ..report.recorder import Recorder, discard_details
    from ._scores import publish

    parts = [read_partial(file) for file in files]
    key = parts[0].key
    _check_parts(files, [part.shard for part in parts], lambda i: [
        f"{name}: {_short(key.get(name))} -> {_short(parts[i].key.get(name))}"
        for name in sorted({*key, *parts[i].key}) if key.get(name) != parts[i].key.get(name)])
    parts.sort(key=lambda part: part.shard)

    first = parts[0].path.parent
    out = out or (first.parent if first.name == FOLDER else first)
    recorder = None
    if key["details"]:
        recorder = Recorder(out, key["images"], key["classes"], key["palette"])
        recorder.join([(part.names, part.matrix.counts, part.counts) for part in parts])
        _copy_images(parts, out)
    else:
        discard_details(out)
    matrix, control = parts[0].matrix, parts[0].control
    for part in parts[1:]:
        matrix, control = matrix + part.matrix, control + part.control
    about = {**key, "checkpoint": parts[0].description["checkpoint"]}
    publish(out, matrix, control, tuple(key["classes"]), about, recorder, parts[0].description)
    return 0


def _copy_images(parts: Sequence[Partial], out: Path) -> None:
    """Copy the small images of parts that were evaluated into other folders; warn if some are not there."""
    from ..report.partial import FOLDER
    from ..report.recorder import DETAILS, IMAGES

    images, missing = out / DETAILS / IMAGES, 0
    for part in parts:
        folder = part.path.parent.parent if part.path.parent.name == FOLDER else part.path.parent
        for number in part.counts["numbers"]:
            if folder.resolve() != out.resolve():
                for file in (folder / DETAILS / IMAGES).glob(f"{number:05d}[._]*"):
                    shutil.copyfile(file, images / file.name)
            missing += not (images / f"{number:05d}.jpg").is_file()
    if missing:
        log.warning("the small copies of %d images are not beside their parts, and mxnetseg report needs them: copy "
                    "the contents of %s/%s of each part to %s", missing, DETAILS, IMAGES, images)


def _merge_predictions(files: Sequence[Path]) -> int:
    from ..errors import UsageError
    from ._predict_results import (
        MANIFEST,
        TABLE,
        WHOLE,
        differences,
        file_of,
        lock,
        read_manifest,
        report_problems,
        write_results,
    )

    folders = {file.resolve().parent for file in files}
    if len(folders) > 1:
        raise UsageError("the parts are in several folders", where="\n".join(map(str, sorted(folders))),
                         fix="copy the results into one folder, then merge that: cp -r ONE/. OTHER/. OUT")
    manifests = [read_manifest(file) for file in files]
    first = manifests[0].header

    def changed(i: int) -> list[str]:
        header = manifests[i].header
        inputs = [] if header["inputs"] == first["inputs"] else [
            f"inputs: {first['inputs']['count']} images -> {header['inputs']['count']} images, or other names"]
        return differences(first, header) + inputs
    _check_parts(files, [manifest.shard for manifest in manifests], changed)
    for file, manifest in zip(files, manifests):
        _check_whole(file, manifest)

    folder = files[0].parent
    entries = sorted((e for manifest in manifests for e in manifest.entries.values()), key=lambda e: e["number"])
    failures = sorted((f for manifest in manifests for f in manifest.failures.values()), key=lambda f: f["number"])
    with lock(folder):
        write_results(folder, {**first, "shard": list(WHOLE)}, entries, failures)
    print(f"{len(entries)} results of {len(files)} parts in {file_of(folder, TABLE, '.csv', WHOLE)} and "
          f"{file_of(folder, MANIFEST, '.jsonl', WHOLE)}")
    return report_problems(entries, failures)


def _check_whole(file: Path, manifest: Manifest) -> None:
    """Refuse a part that was interrupted, or whose files are not there."""
    from ..errors import UsageError

    index, count = manifest.shard
    expected = set(manifest.shard.indices(manifest.header["inputs"]["count"]))
    listed = {entry["number"] for entry in (*manifest.entries.values(), *manifest.failures.values())}
    again = f"run the same command with --shard {index + 1}/{count}; it computes what is missing"
    if listed != expected:
        raise UsageError(f"part {index + 1}/{count} is not complete", where=file,
                         received=f"{len(listed & expected)} of {len(expected)} inputs", fix=again)
    for entry in manifest.entries.values():
        for name, size in entry["files"].items():
            path = file.parent / name
            if not path.is_file() or path.stat().st_size != size:
                raise UsageError("a result is missing or was changed", where=path, fix=again)


def _short(value: object) -> str:
    from ..errors import short

    return short(value, 160)
