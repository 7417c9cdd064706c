"""Gluon networks with trained weights: folders of ``mxnetseg export --format hub``, the hub, and named networks."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._compat import import_optional
from ..backends.package import HUB_ARRAYS, HUB_CONFIG, read_package, read_safetensors
from ..errors import CheckpointError, MXNetSegError, UsageError
from ..files import PathLike, expand
from .named import HELP, HUB, ID, hub_folder, is_name, locate
from .sidecar import check

if TYPE_CHECKING:
    import mxnet as mx


def from_pretrained(source: PathLike, *, revision: str | None = None,
                    ctx: mx.Context | Sequence[mx.Context] | None = None, local_files_only: bool = False) -> Any:
    """Return a Gluon network with trained weights, ready to use or to train.

    Args:
        source: a folder that ``mxnetseg export --format hub`` wrote; or ``USER/NAME`` of a model on the Hugging Face
            hub, which is downloaded once (a folder of that name in the current directory has precedence); or a name of
            :mod:`~mxnetseg.engine.named`: ``'included'``, ``'gluoncv:fcn_resnet50_ade'``, ``'hub:USER/NAME'``.
        revision: branch, tag or commit on the hub; None: its main branch.
        ctx: an MXNet context or a list of them; None: ``mx.cpu()``.
        local_files_only: use what was downloaded before, without asking the hub.

    Returns:
        the network, a :class:`~mxnetseg.models._base.SegModel` with its ``mean`` and ``std``.

    Raises:
        CheckpointError: a file is missing or damaged, or does not fit the network that it names.
        UsageError, UnknownNameError: neither a folder nor a name, or no such name.
        EnvironmentProblem: MXNet, safetensors or, for the hub, huggingface_hub is not installed; or the hub cannot be
            reached.

    Example:
        >>> from mxnetseg import from_pretrained
        >>> net = from_pretrained("street-fcn")  # after `mxnetseg export CKPT street-fcn --format hub`
        >>> import mxnet as mx
        >>> net(mx.nd.zeros((1, 3, 65, 97)))[0].shape
        (1, 9, 65, 97)
    """
    if is_name(source) and not str(source).startswith(HUB):
        return _of_checkpoint(str(source), revision, ctx)
    folder = _folder(source, revision, local_files_only)
    mx = import_optional("mxnet", "a Gluon network", where=source,
                         fix=f"without MXNet, mxnetseg.Predictor({str(folder)!r}) predicts, "
                             f"mxnetseg.to_torch({str(folder)!r}) converts")

    package = read_package(folder)
    if "model" not in package.sidecar:
        raise UsageError("the folder holds a model of MXNet that is no network of this library", where=folder,
                         fix=f"mxnetseg.to_torch({str(folder)!r}), or export it as mxnet for SymbolBlock.imports")
    check(package.sidecar, folder / HUB_CONFIG, has_files=False)

    from ..models import build_model
    from ..models.weights.loading import assign, initialize
    from ..nn.norm import choose_norm

    contexts = _contexts(ctx)
    norm_layer, norm_kwargs = choose_norm("bn", contexts)
    try:
        net = build_model(**package.sidecar["model"], norm_layer=norm_layer, norm_kwargs=norm_kwargs)
    except MXNetSegError as error:
        raise CheckpointError(f"the network cannot be built: model: {error.what}", where=folder / HUB_CONFIG,
                              received=error.received, fix=error.fix) from error
    initialize(net, contexts, random=False)
    net.mean, net.std = package.record.mean, package.record.std
    arrays = {name: mx.nd.array(array, dtype=array.dtype) for name, array in
              read_safetensors(folder / HUB_ARRAYS).items()}
    assign(net, arrays, where=folder / HUB_ARRAYS)
    return net


def _of_checkpoint(name: str, revision: str | None, ctx: Any) -> Any:
    """Return the network of the included checkpoint or of GluonCV's."""
    if revision is not None:
        raise UsageError("only a model on the hub has revisions", where=name, received=revision,
                         fix="leave revision out")
    from .network import restore

    located = locate(name, backend="mxnet")
    return restore(located.network, _contexts(ctx))[0]


def _contexts(ctx: mx.Context | Sequence[mx.Context] | None) -> list[mx.Context]:
    """Return one or several contexts as a list, by default the CPU."""
    import mxnet as mx

    return list(ctx) if isinstance(ctx, (list, tuple)) else [ctx or mx.cpu()]


def _folder(source: PathLike, revision: str | None, local_files_only: bool) -> Path:
    """Return the folder, which is downloaded if it is on the hub."""
    folder = expand(source)
    if str(source) and folder.is_dir():
        if revision is not None:
            raise UsageError("a folder on this machine has no revisions", where=str(source), received=revision,
                             fix="leave revision out, or give an id USER/NAME of which no folder of that name exists")
        return folder
    text = str(source)[len(HUB):] if str(source).startswith(HUB) else source
    if not isinstance(text, str) or text == source and not ID.fullmatch(text.partition("@")[0]):
        raise UsageError("neither a folder nor an id of the Hugging Face hub", received=str(source),
                         fix=f"the folder of `mxnetseg export --format hub`, USER/NAME, or {HELP}")
    return hub_folder(text, revision=revision, local_files_only=local_files_only)
