"""A network for inference as one fused graph, in float32, bfloat16, int8 or float16.

``float32``: oneDNN folds batch norm, ReLU and residual sums into the convolutions; equal to the network
to rounding. ``bfloat16``: convolutions and matrix products with 8 bits of mantissa, accumulated in float32;
softmax, norms and resizing stay in float32. ``int8``: convolutions on integers, weights scaled per channel,
activations by what real pictures gave (Jacob et al. 2018, section 2); layers that cost accuracy stay in float32.
``float16``: the same as bfloat16, for GPUs. ``plain``: the network as it is, to find out whose fault something is.
"""
from __future__ import annotations

import logging
import warnings
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet.contrib import amp, quantization
from mxnet.gluon import HybridBlock, SymbolBlock

from .._precisions import PRECISIONS
from .._processor import has_amx, has_bfloat16, multiplies_bfloat16
from ..errors import ConfigError, UsageError
from ..nn.blocks import InputStep
from .passes import activations, early_casts, even_inputs

log = logging.getLogger(__name__)

# MXNet's passes over a graph. Not optimize_for(), which then infers shapes and goes wrong on HRNet and CANetV2.
_FUSE, _FUSE_FOR_INT8 = "MKLDNN", "MKLDNN_QUANTIZE"
# what MXNet cannot compute in bfloat16 and its own list leaves out
_NO_HALF = [("LeakyReLU", "act_type", ["prelu", "leaky", "rrelu", "gelu"])]
# share of the calibration pictures' pixels that keep their class in int8
AGREEMENT = 0.992
# Each group of layers takes one image's inference to judge; of networks with more layers, neighbours share a group.
_MOST_GROUPS = 64
# MXNet quantises a product of two maps but computes it for signed numbers only: a sigmoid's unsigned output fails.
_NO_INT8 = ("elemwise_mul",)


class Choice(NamedTuple):
    """A precision and why it was taken."""

    precision: str
    reason: str


def choose_precision(asked: str, contexts: Sequence[mx.Context], *, where: str = "--precision") -> Choice:
    """What ``--precision``, or ``train.precision``, means on these devices.

    Args:
        asked: one of :data:`PRECISIONS`. ``'auto'``: float16 on GPUs, bfloat16 on processors that multiply
            it (AMX, AVX-512), else float32; never int8, which needs pictures to calibrate on.
        contexts: where the network runs.
        where: what asks, for messages.

    Raises:
        ConfigError: the devices cannot compute in ``asked``.
    """
    gpu = any(context.device_type == "gpu" for context in contexts)
    if asked not in PRECISIONS:
        raise ConfigError("unknown precision", where=where, received=asked,
                          fix=f"one of {', '.join(PRECISIONS)}")
    if asked == "auto":
        if gpu:
            return Choice("float16", "a GPU")
        if multiplies_bfloat16():
            return Choice("bfloat16", "the processor has AMX" if has_amx() else "the processor multiplies bfloat16")
        return Choice("float32", "the processor has no bfloat16")
    if gpu and asked in ("bfloat16", "int8"):
        raise ConfigError(f"{asked} is for CPUs", where=where, received=f"{asked} on {contexts[0]}",
                          fix="float16 or float32 on a GPU")
    if not gpu and asked == "float16":
        raise ConfigError("MXNet computes float16 on GPUs only", where=where, received="float16 on a CPU",
                          fix=f"{'bfloat16 or ' * has_bfloat16()}float32 on a CPU")
    if not gpu and asked == "bfloat16" and not has_bfloat16():
        raise ConfigError("MXNet computes bfloat16 on processors with AVX-512 only, and this one has none, or "
                          "DNNL_MAX_CPU_ISA forbids it", where=where, received=asked, fix="float32, or auto")
    return Choice(asked, "asked for")


class Fused(HybridBlock):
    """The main output of a network at a precision: normalised (N, 3, H, W) -> (logits (N, K, H, W),).

    Its weights are those of the moment when it is made; training the network afterwards does not reach it.

    Attributes:
        precision: what it computes in.
        kept: names of the layers that int8 left in float32.
    """

    frozen = True  # for PerSize

    def __init__(self, net, precision: str, contexts: Sequence[mx.Context], *,
                 calibration: Sequence[np.ndarray] = ()):
        """
        Args:
            net: a :class:`~mxnetseg.models._base.SegModel`, initialised.
            precision: not ``'auto'``, see :func:`choose_precision`.
            contexts: where it will run.
            calibration: for int8: some real pictures, uint8 (H, W, 3) RGB, without masks.

        Raises:
            UsageError: int8 without pictures.
        """
        super().__init__()
        self.mean, self.std, self.smallest_side = net.mean, net.std, net.smallest_side
        self.precision, self.kept = precision, ()
        symbol, arguments, auxiliaries = _graph(net)
        symbol = activations(symbol)
        if precision == "int8":
            if not len(calibration):
                raise UsageError("int8 needs a few real pictures to learn the range of every layer from",
                                 fix="give pictures to calibrate on, or take another precision")
            symbol, arguments, auxiliaries, self.kept = _Quantiser(
                net, symbol, arguments, auxiliaries, calibration).best()
        else:
            if precision == "bfloat16":
                symbol, arguments = even_inputs(symbol, arguments)
                symbol, arguments, auxiliaries = _halve(symbol, arguments, auxiliaries, precision)
                symbol = early_casts(symbol)
            elif precision == "float16":
                symbol, arguments, auxiliaries = _halve(symbol, arguments, auxiliaries, precision)
            if contexts[0].device_type == "cpu":
                symbol = symbol.get_backend_symbol(_FUSE)
        with self.name_scope():
            self.graph = _block(symbol, arguments, auxiliaries, contexts)

    def hybrid_forward(self, F, x):
        return (self.graph(x),)


def _graph(net) -> Tuple[mx.sym.Symbol, Dict[str, mx.nd.NDArray], Dict[str, mx.nd.NDArray]]:
    """The main output as a symbol of ``data``, its arguments and its running statistics."""
    symbol = net(mx.sym.var("data"))[0]
    values = {p.name: p for p in net.collect_params().values()}

    def copies(names):
        # by way of the host, in plain layout: oneDNN may have laid a weight out so that MXNet cannot cast it
        return {name: mx.nd.array(values[name].data().asnumpy()) for name in names if name != "data"}
    arguments, auxiliaries = copies(symbol.list_arguments()), copies(symbol.list_auxiliary_states())
    return symbol, arguments, auxiliaries


def _halve(symbol, arguments, auxiliaries, precision: str):
    """The graph with convolutions and dense layers in half precision, their weights cast once and for all.

    Cast at run time, every weight would be folded anew for each picture.
    """
    return _with_half_lists(precision, lambda **lists: amp.convert_model(
        symbol, dict(arguments), dict(auxiliaries), target_dtype=precision, cast_optional_params=True, **lists))


def to_half(symbol: mx.sym.Symbol, precision: str, *, data_name: str,
            excluded_sym_names: Sequence[str] = ()) -> mx.sym.Symbol:
    """The graph with convolutions and dense layers in half precision, which casts its float32 parameters itself.

    For training: what is cast are the master weights, and their gradients arrive in float32.

    Args:
        symbol: the graph.
        precision: ``'bfloat16'`` or ``'float16'``.
        data_name: its input, uint8.
        excluded_sym_names: operators that stay in float32.
    """
    def convert(**lists):
        half = amp.convert_symbol(symbol, target_dtype=precision, data_names=[data_name],
                                  excluded_sym_names=list(excluded_sym_names), cast_optional_params=False, **lists)
        half.infer_type(**{data_name: "uint8"})  # raises where operators' types do not agree
        return half
    return _with_half_lists(precision, convert)


def _with_half_lists(precision: str, convert: Callable[..., Any]):
    """What ``convert`` makes of MXNet's lists of operators that bear half precision, and those that do not."""
    kind = amp.amp.bfloat16 if precision == "bfloat16" else precision
    no_half = [*amp.list_conditional_fp32_ops(kind), *_NO_HALF]
    try:
        return convert(conditional_fp32_ops=no_half)
    except mx.MXNetError:
        # a map in bfloat16 meets a resized one in float32, in a concatenation or before a pooling; not so in float16
        if precision != "bfloat16":
            raise
    lists = {"conditional_fp32_ops": no_half, "target_dtype_ops": amp.list_lp16_ops(kind)}
    try:
        return convert(fp32_ops=[*amp.list_fp32_ops(kind), "Concat"], **lists)
    except mx.MXNetError:
        return convert(fp32_ops=[*amp.list_fp32_ops(kind), "Concat", "Pooling"], **lists)


def _block(symbol, arguments, auxiliaries, contexts) -> SymbolBlock:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it guesses types before it has the weights, which tell them
        block = SymbolBlock(symbol, [mx.sym.var("data")])
    for name, parameter in block.collect_params().items():
        value = arguments[name] if name in arguments else auxiliaries[name]
        # not initialize(): MXNet has no random numbers of type bfloat16 or int8
        parameter._load_init(value, list(contexts), cast_dtype=True, dtype_source="saved")
    return block


class _Quantiser:
    """Searches the int8 form of a graph that keeps the classes of real images.

    Everything is quantised first. If too many pixels of the calibration images change their class, each layer is
    tried alone in int8, and the layers that change the logits most return to float32: as few as keep enough classes.
    """

    def __init__(self, net, symbol, arguments, auxiliaries, images: Sequence[np.ndarray]):
        self._arguments, self._auxiliaries = arguments, auxiliaries
        self._symbol = symbol.get_backend_symbol(_FUSE_FOR_INT8)
        names = (node.name for node in self._symbol.get_internals())
        self._layers = list(dict.fromkeys(name for name in names if name.startswith("sg_mkldnn")))
        self._batches = _normalised(net, images)
        plain = _block(symbol.get_backend_symbol(_FUSE), arguments, auxiliaries, [mx.cpu()])
        self._wanted = [plain(x).asnumpy() for x in self._batches]
        self._thresholds = self._calibrate()

    def best(self):
        """Return (symbol, arguments, auxiliaries, names of the layers kept in float32)."""
        kept: List[str] = []
        quantised = self._convert(kept)
        agreement = self._agreement(quantised)
        if agreement < AGREEMENT:
            groups = self._by_harm()
            # The fewest groups that suffice, by bisection: more groups in float32 do not change more classes.
            enough, too_few = len(groups), 0
            while enough - too_few > 1:
                middle = (enough + too_few) // 2
                kept = sum(groups[:middle], [])
                if self._agreement(self._convert(kept)) >= AGREEMENT:
                    enough = middle
                else:
                    too_few = middle
            kept = sum(groups[:enough], [])
            quantised = self._convert(kept)
            agreement = self._agreement(quantised)

        log.info("int8: %.2f %% of the calibration pixels keep their class; %d of %d layers in float32",
                 100 * agreement, len(kept), len(self._layers))
        return (*quantised, tuple(kept))

    def _calibrate(self):
        """Smallest and largest value of every layer's output on the pictures, as MXNet's collector has them."""
        *_, collector = self._quantise([])
        for x in self._batches:
            module = mx.mod.Module(self._symbol, context=mx.cpu(), data_names=["data"], label_names=None)
            module.bind(for_training=False, data_shapes=[("data", x.shape)])
            module.set_params(self._arguments, self._auxiliaries)
            module._exec_group.execs[0].set_monitor_callback(collector.collect, monitor_all=True)
            module.forward(mx.io.DataBatch(data=[x]), is_train=False)
            module.get_outputs()[0].wait_to_read()
        return collector

    def _quantise(self, kept: Sequence[str]):
        return quantization.quantize_graph(
            self._symbol, self._arguments, self._auxiliaries, excluded_sym_names=list(kept),
            excluded_op_names=list(_NO_INT8), calib_mode="naive", quantized_dtype="auto", quantize_mode="smart",
            quantize_granularity="channel-wise")

    def _convert(self, kept: Sequence[str]):
        """Return the graph with ``kept`` in float32, its arguments and its running statistics."""
        symbol, *_ = self._quantise(kept)
        symbol, arguments, auxiliaries = quantization.calib_graph(
            symbol, self._arguments, self._auxiliaries, self._thresholds, calib_mode="naive", quantized_dtype="auto",
            logger=None)
        return symbol.get_backend_symbol(_FUSE_FOR_INT8), arguments, auxiliaries

    def _agreement(self, quantised) -> float:
        """Return the fraction of the calibration images' pixels that keep their class."""
        block = _block(*quantised, [mx.cpu()])
        return float(np.mean([(block(x).argmax(axis=1).asnumpy() == wanted.argmax(axis=1)).mean()
                              for x, wanted in zip(self._batches, self._wanted)]))

    def _by_harm(self) -> List[List[str]]:
        """Return the layers in groups of neighbours, ordered by what each does to the logits if it alone is int8.

        The worst comes first. Logits say more than classes here: one layer alone changes few classes.
        """
        size = -(-len(self._layers) // _MOST_GROUPS)
        groups = [self._layers[i:i + size] for i in range(0, len(self._layers), size)]
        x, wanted = self._batches[0], self._wanted[0]

        def harm(group: Sequence[str]) -> float:
            block = _block(*self._convert([name for name in self._layers if name not in group]), [mx.cpu()])
            return float(np.square(block(x).asnumpy() - wanted).mean())
        return sorted(groups, key=harm, reverse=True)


def _normalised(net, pictures: Sequence[np.ndarray]) -> List[mx.nd.NDArray]:
    step = InputStep(net.mean, net.std)
    step.initialize()
    return [step(mx.nd.array(picture[None], dtype="uint8")) for picture in pictures]


def calibration_pictures(dataset, count: int = 8) -> List[np.ndarray]:
    """``count`` pictures spread over a split, for int8."""
    return [dataset[int(i)].image for i in np.linspace(0, len(dataset) - 1, min(count, len(dataset)))]


def fused(net, contexts: Sequence[mx.Context], precision: str = "float32", *,
          calibration: Sequence[np.ndarray] = ()):
    """The form of ``net`` to infer with: a :class:`Fused`, or ``net`` itself for ``'plain'``.

    Args:
        net, contexts, calibration: see :class:`Fused`.
        precision: one of :data:`PRECISIONS`.

    Raises:
        ConfigError: the devices cannot compute in ``precision``.
        UsageError: int8 without pictures to calibrate on.
    """
    choice = choose_precision(precision, contexts)
    log.debug("precision %s: %s", *choice)
    if choice.precision == "plain":
        return net
    return Fused(net, choice.precision, contexts, calibration=calibration)
