#!/bin/sh
# Train on all GPUs of one host, without any launcher: mxnetseg starts one process for each device.
# Further arguments are those of `mxnetseg train`:  DEVICES="cpu0 cpu1" demo/distributed/one_host.sh --epochs 1
set -eu
exec ${PYTHON:-python} -m mxnetseg train --backend torch --ctx ${DEVICES:-0 1 2 3} --resume auto "$@"
