"""An agent in a process of its own, for tests that kill it: ``python -m tests.agent_process FOLDER SERVER``.

Prints a line when it holds the spool and goes on until it is killed. With ``fork`` as third argument it forks first,
and the child, which prints its number, does nothing but outlive its parent.
"""

import os
import sys
import time

from edgeml.telemetry.agent_settings import AgentSettings
from edgeml.telemetry.agent_thread import AgentThread
from edgeml.telemetry.spool import Spool
from tests.agent_tools import KEY
from tests.fake_monitor import TOKEN


def main() -> None:
    folder, server = sys.argv[1], sys.argv[2]
    spool = Spool(folder, key=KEY)
    thread = AgentThread(spool, folder, AgentSettings(server=server, token=TOKEN, idle_seconds=0.05), standby=0.05)
    thread.start()
    while not thread._lock.held:
        time.sleep(0.01)
    if sys.argv[3:] == ["fork"]:
        child = os.fork()
        if child == 0:
            time.sleep(120)
            os._exit(0)
        print(child, flush=True)
    print("held", flush=True)
    time.sleep(120)


if __name__ == "__main__":
    main()
