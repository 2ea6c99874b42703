"""Run benchmarks by name, all of them where none is named: `python -m benchmarks [NAME…] [--quick]`.

Where one is named, its own options may follow; they win over those of `--quick`.
"""

import argparse
import asyncio
import importlib
import sys

NAMES = (
    "latency",
    "commands",
    "no_op",
    "deploy",
    "revert",
    "snapshot",
    "wake",
    "idle",
    "dry_run",
    "failover",
    "many",
    "modules",
    "rollout",
    "claims",
    "objects",
    "objects_diff",
    "cycles",
    "services",
    "containers",
    "routes",
    "planning",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], default=list(NAMES))
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer runs")
    options, own = parser.parse_known_args()
    if own and len(options.names) != 1:
        parser.error(f"options of one benchmark, and not of all: {' '.join(own)}")
    failed = False
    for name in options.names or NAMES:
        module = importlib.import_module(f"benchmarks.{name}")
        arguments = [*module.QUICK, *own] if options.quick else own
        failed |= bool(asyncio.run(module.main(arguments)))
        print(flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
