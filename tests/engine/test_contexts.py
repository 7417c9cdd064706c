"""Contexts that --ctx names, on machines with and without GPUs."""
import ctypes
import logging

import mxnet as mx
import numpy as np
import pytest

from mxnetseg._compat import count_cores, count_threads
from mxnetseg.backends.mxnet_parallel import to_device
from mxnetseg.engine import contexts
from mxnetseg.engine.contexts import resolve_contexts
from mxnetseg.errors import DeviceError


@pytest.fixture
def gpus(monkeypatch):
    """Function that makes a machine with GPUs: ``gpus(2)``."""
    monkeypatch.setattr(contexts, "compute_capability", lambda index: (8, 6))
    return lambda count: monkeypatch.setattr(mx.context, "num_gpus", lambda: count)


def test_by_default_the_first_gpu_or_the_cpu(gpus):
    gpus(0)
    assert resolve_contexts() == resolve_contexts([]) == [mx.cpu()]
    gpus(2)
    assert resolve_contexts() == [mx.gpu(0)]


@pytest.mark.parametrize("wanted", [["0"], ["0", "1", "2", "3"], ["2", "5"], [0, 1], ["gpu0", "gpu:1"]])
def test_without_any_gpu_one_cpu_context_after_one_warning(gpus, wanted, caplog):
    gpus(0)
    with caplog.at_level(logging.INFO, logger="mxnetseg"):
        assert resolve_contexts(wanted) == [mx.cpu()]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    for word in ("no GPU", " ".join(map(str, wanted)), "on the CPU", "mxnetseg[cu112]", "doctor"):
        assert word in record.getMessage()
    assert ("one device with the whole batch" in record.getMessage()) == (len(wanted) > 1)


@pytest.mark.parametrize("wanted, indices", [(["0"], [0]), (["1", "0"], [1, 0]), (["0", "1", "2", "3"], [0, 1, 2, 3]),
                                             (["gpu(2)"], [2]), (["GPU", "1"], [0, 1])])
def test_present_gpus(gpus, wanted, indices, caplog):
    gpus(4)
    assert resolve_contexts(wanted) == [mx.gpu(i) for i in indices] and not caplog.records


@pytest.mark.parametrize("count, wanted, missing, present", [
    (1, ["1"], "GPU 1", "GPU 0 is present"), (2, ["0", "1", "2", "3"], "GPU 2", "GPUs 0 to 1 are present"),
    (4, ["7"], "GPU 7", "GPUs 0 to 3 are present")])
def test_a_gpu_missing_among_present_ones_is_an_error(gpus, count, wanted, missing, present):
    gpus(count)
    with pytest.raises(DeviceError, match=f"{missing} is not there") as error:
        resolve_contexts(wanted)
    assert present in str(error.value) and "--ctx" in str(error.value) and error.value.exit_code == 2


def test_a_gpu_that_mxnet_has_no_code_for(gpus, caplog, monkeypatch):
    gpus(2)
    monkeypatch.setattr(contexts, "compute_capability", {0: (9, 0), 1: (8, 9)}.__getitem__)
    assert resolve_contexts(["1"]) == [mx.gpu(1)] and not caplog.records
    with pytest.raises(DeviceError, match="GPU 0 is of compute capability 9.0") as error:
        resolve_contexts(["0", "1"])
    assert "--ctx cpu" in str(error.value)
    assert resolve_contexts() == [mx.cpu()] and "9.0" in caplog.text


@pytest.mark.parametrize("count", [0, 2])
def test_the_cpu_needs_no_warning(gpus, count, caplog):
    gpus(count)
    assert resolve_contexts(["cpu"]) == [mx.cpu(0)]
    assert resolve_contexts(["cpu0", "cpu(1)", "CPU:2"]) == [mx.cpu(0), mx.cpu(1), mx.cpu(2)]
    assert resolve_contexts(["cpu", "cpu"]) == resolve_contexts(["cpu", "cpu1"]) == [mx.cpu(0), mx.cpu(1)]
    assert resolve_contexts(["CPU", "cpu", "cpu"]) == [mx.cpu(i) for i in range(3)]
    assert not caplog.records


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("wanted", [["0", "0"], ["0", "1", "0"], ["0", "00"], ["cpu", "cpu0"], ["0", "gpu0"], [0, "0"],
                                    ["cpu", "cpu", "cpu1"]])
def test_a_device_named_twice(gpus, count, wanted):
    gpus(count)
    with pytest.raises(DeviceError, match="named twice") as error:
        resolve_contexts(wanted)
    assert " ".join(map(str, wanted)) in str(error.value)


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("wanted", [["0", "cpu"], ["cpu0", "gpu1"]])
def test_gpus_and_the_cpu_together_are_refused(gpus, count, wanted):
    gpus(count)
    with pytest.raises(DeviceError, match="cannot share"):
        resolve_contexts(wanted)


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("text", ["", " ", "all", "-1", "1.5", "0,1", "cuda:0", "gpu-1", "cpu gpu", "0x1", "tpu"])
def test_a_text_that_names_no_device(gpus, count, text):
    gpus(count)
    with pytest.raises(DeviceError, match="not a device") as error:
        resolve_contexts(["0", text])
    assert "0 1 2 3" in str(error.value)


@pytest.mark.parametrize("context", [mx.cpu(0), mx.cpu(1)], ids=str)
def test_an_array_is_sent_to_a_device(context):
    array = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)[1:3]
    there = to_device(array, context)
    assert there.context == context and there.dtype == np.uint8
    np.testing.assert_array_equal(there.asnumpy(), array)


def test_on_the_first_cpu_context_nothing_is_copied():
    array = np.zeros((3, 2), np.uint8)
    there = to_device(array, mx.cpu())
    there[1, 0] = 7
    mx.nd.waitall()
    assert array[1, 0] == 7


def threads_of(context):
    """Return the number of OpenMP threads that an operator of a context starts."""
    seen = []
    omp = ctypes.CDLL("libgomp.so.1")
    ask = contexts._PushedFunction(lambda _: seen.append(omp.omp_get_max_threads()))
    contexts.check_call(contexts._LIB.MXEnginePushSync(ask, None, None, ctypes.byref(contexts._CContext(context)), None,
                                                       0, None, 0, None, 0, b"ask"))
    mx.nd.waitall()
    return seen[0]


@pytest.mark.parametrize("cores, count, each", [("8", 1, 8), ("8", 2, 4), ("8", 3, 2), ("2", 4, 1), ("1", 2, 1)])
def test_cpu_contexts_share_the_cores(gpus, monkeypatch, cores, count, each):
    gpus(0)
    monkeypatch.setenv("OMP_NUM_THREADS", cores)
    devices = resolve_contexts(["cpu"] * count)
    assert [threads_of(device) for device in devices] == [each] * count
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert threads_of(resolve_contexts(["cpu"])[0]) == 1  # a later choice replaces it


@pytest.mark.parametrize("value", ["", "0", "many"])
def test_by_default_there_is_one_thread_per_core(monkeypatch, value):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert count_threads() == count_cores()
    monkeypatch.setenv("OMP_NUM_THREADS", "6,2")
    assert count_threads() == 6
