"""Runs one command and tells what it took: a small process, for a child's peak memory begins with its parent's.

`python -S benchmarks/launch.py RESULT COMMAND…` writes a line of JSON to RESULT; output goes where ours goes.
"""

import json
import os
import sys
import time


def main() -> None:
    result, *command = sys.argv[1:]
    began = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    told = {
        "seconds": time.perf_counter() - began,
        "exit_code": os.waitstatus_to_exitcode(status),
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak": usage.ru_maxrss * 1024,
    }
    # No pathlib: this process is to stay small.
    with open(result, "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(told, file)


if __name__ == "__main__":
    main()
