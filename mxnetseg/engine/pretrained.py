"""Networks from folders that ``mxnetseg export --format hub`` wrote, on this machine or on the Hugging Face hub."""
from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backends.package import HUB_ARRAYS, HUB_CONFIG, HUB_SYMBOL, read_package, read_safetensors
from ..errors import CheckpointError, EnvironmentProblem, MXNetSegError, UsageError, reason
from ..files import PathLike, expand
from .sidecar import check

if TYPE_CHECKING:
    import mxnet as mx

log = logging.getLogger(__name__)

_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def from_pretrained(source: PathLike, *, revision: str | None = None,
                    ctx: mx.Context | Sequence[mx.Context] | None = None, local_files_only: bool = False) -> Any:
    """Return a Gluon network from a folder that ``mxnetseg export --format hub`` wrote, ready to use or to train.

    Args:
        source: the folder; or ``USER/NAME`` of a model on the Hugging Face hub, which is downloaded once. A folder of
            that name in the current directory has precedence.
        revision: branch, tag or commit on the hub; None: its main branch.
        ctx: an MXNet context or a list of them; None: ``mx.cpu()``.
        local_files_only: use what was downloaded before, without asking the hub.

    Returns:
        the network, a :class:`~mxnetseg.models._base.SegModel` with its ``mean`` and ``std``.

    Raises:
        CheckpointError: a file is missing or damaged, or does not fit the network that it names.
        UsageError: neither a folder nor an id of the hub.
        EnvironmentProblem: MXNet, safetensors or, for the hub, huggingface_hub is not installed; or the hub cannot be
            reached.

    Example:
        >>> from mxnetseg import from_pretrained
        >>> net = from_pretrained("street-fcn")  # after `mxnetseg export CKPT street-fcn --format hub`
        >>> import mxnet as mx
        >>> net(mx.nd.zeros((1, 3, 65, 97)))[0].shape
        (1, 9, 65, 97)
    """
    folder = _folder(source, revision, local_files_only)
    try:
        import mxnet as mx
    except ImportError as error:
        fix = f"mxnetseg.Predictor({str(folder)!r}) predicts, mxnetseg.to_torch({str(folder)!r}) converts"
        raise EnvironmentProblem("a Gluon network needs MXNet, which is not installed", where=str(source),
                                 received=error, fix=f"without MXNet, {fix}") from None

    package = read_package(folder)
    if "model" not in package.sidecar:
        raise UsageError("the folder holds a model of MXNet that is no network of this library", where=folder,
                         fix=f"mxnetseg.to_torch({str(folder)!r}), or export it as mxnet for SymbolBlock.imports")
    check(package.sidecar, folder / HUB_CONFIG, has_files=False)

    from ..models import build_model
    from ..models.weights.loading import assign, initialize
    from ..nn.norm import choose_norm

    contexts = list(ctx) if isinstance(ctx, (list, tuple)) else [ctx or mx.cpu()]
    norm_layer, norm_kwargs = choose_norm("bn", contexts)
    try:
        net = build_model(**package.sidecar["model"], norm_layer=norm_layer, norm_kwargs=norm_kwargs)
    except MXNetSegError as error:
        raise CheckpointError(f"the network cannot be built: model: {error.what}", where=folder / HUB_CONFIG,
                              received=error.received, fix=error.fix) from error
    initialize(net, contexts)
    net.mean, net.std = package.record.mean, package.record.std
    arrays = {name: mx.nd.array(array, dtype=array.dtype) for name, array in
              read_safetensors(folder / HUB_ARRAYS).items()}
    assign(net, arrays, where=folder / HUB_ARRAYS)
    return net


def _folder(source: PathLike, revision: str | None, local_files_only: bool) -> Path:
    """Return the folder, which is downloaded if it is on the hub."""
    folder = expand(source)
    if str(source) and folder.is_dir():
        if revision is not None:
            raise UsageError("a folder on this machine has no revisions", where=str(source), received=revision,
                             fix="leave revision out, or give an id USER/NAME of which no folder of that name exists")
        return folder
    if not isinstance(source, str) or not _ID.fullmatch(source):
        raise UsageError("neither a folder nor an id of the Hugging Face hub", received=str(source),
                         fix="the folder of `mxnetseg export --format hub`, or USER/NAME")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise EnvironmentProblem("huggingface_hub is not installed", where=source, received=error,
                                 fix="pip install 'mxnetseg[hub]', or give a folder") from None
    try:
        found = snapshot_download(source, revision=revision, local_files_only=local_files_only,
                                  allow_patterns=[HUB_CONFIG, HUB_SYMBOL, HUB_ARRAYS, "README.md"])
    except Exception as error:  # of many classes, of several libraries
        where = source if revision is None else f"{source}, revision {revision}"
        raise EnvironmentProblem("the model cannot be downloaded from the Hugging Face hub", where=where,
                                 received=reason(error),
                                 fix="check the id, the revision, the network, and HF_TOKEN for a private model"
                                 ) from error
    log.info("%s: %s", source, found)
    return Path(found)
