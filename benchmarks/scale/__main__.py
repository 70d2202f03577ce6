"""`python -m benchmarks.scale COMMAND`."""

import argparse
import sys

import benchmarks.scale
from benchmarks.scale import planning, shapes, validating


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale",
        description=benchmarks.scale.__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    validating.add_arguments(commands.add_parser("validate", help="is the simulator right?"))
    planning.add_arguments(commands.add_parser("plan", help="hours and money by number of workers"))
    planning.add_arguments(commands.add_parser("hazards", help="what each thing costs that goes wrong"))
    commands.add_parser("shapes", help="bytes and operations of published models")
    args = parser.parse_args()
    if args.command == "validate":
        sys.exit(not validating.main(args))
    if args.command == "shapes":
        shapes.main()
    else:
        {"plan": planning.plan, "hazards": planning.hazards}[args.command](args)


if __name__ == "__main__":
    main()
