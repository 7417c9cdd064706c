"""A process of a run without network and data: ``group_member.py PLAN`` joins the others and makes steps.

PLAN is JSON: ``facts``; ``start`` and ``step``, the time-outs; ``silence``, seconds; ``steps``, and ``seconds`` of
each; ``fail`` and ``hang``, the rank and step at which that happens: ``[1, 3]``. Each step ends with a barrier, as
gradients do.
"""
from __future__ import annotations

import json
import logging
import signal
import sys
import time

import numpy as np

from mxnetseg.engine import group as group_module
from mxnetseg.engine import hub, links
from mxnetseg.engine.group import join_group
from mxnetseg.engine.interrupt import Interrupt
from mxnetseg.engine.processes import Processes
from mxnetseg.errors import DataError, MXNetSegError


def main() -> int:
    """Join, make the steps, leave."""
    plan = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.DEBUG)
    hub._HELLO, links._PAUSE = 3.0, 0.02
    hub.SILENCE = group_module.SILENCE = plan.get("silence", 20.0)
    place = Processes.from_environment()
    facts = plan.get("facts", [{}] * place.size)[place.rank]
    try:
        with join_group(place, facts, start_timeout=plan.get("start", 60.0), step_timeout=plan.get("step", 60.0)
                        ) as group, Interrupt(group.request_stop, patience=1.0):
            values = group.broadcast({"from": place.rank}), group.sum_arrays([np.arange(3) + place.rank])[0].tolist()
            print("joined", json.dumps(values), group.address, flush=True)
            group.agree(lambda: {"same": 1})
            if plan.get("disagree"):
                group.agree(lambda: {"data": f"of {place.rank}"})
            steps = 0
            while steps < plan["steps"] and group.proceeds():
                if plan.get("fail") == [place.rank, steps]:
                    raise DataError("an image is damaged", where="image7.png")
                if plan.get("hang") == [place.rank, steps]:
                    signal.pause()
                time.sleep(plan.get("seconds", 0.01))
                group.barrier()
                steps += 1
                print("step", steps, flush=True)
    except MXNetSegError as error:
        print(error, flush=True)
        return error.exit_code
    print("done", steps, group.stop_signal, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
