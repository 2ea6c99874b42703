"""Run benchmarks by name, all of them where none is named: `python -m benchmarks [NAME…] [--quick]`."""

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
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], default=list(NAMES))
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer runs")
    options = parser.parse_args()
    for name in options.names or NAMES:
        module = importlib.import_module(f"benchmarks.{name}")
        arguments = module.QUICK if options.quick else []
        asyncio.run(module.main(arguments))
        print(flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
