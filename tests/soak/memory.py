"""`make soak`, of memory: a gateway holds no more while a batch of 200 MB goes in, is run and comes out."""

import argparse
import pathlib
import sys
import tempfile

from e2e import large


def main() -> None:
    parser = argparse.ArgumentParser(prog="soak.memory", description=__doc__)
    parser.add_argument("--lines", type=int, default=50_000, help=f"of {large.LINE_BYTES} bytes")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        grown = large.grow(pathlib.Path(folder), chosen.lines)
    print(
        f"{grown.input_mib:.0f} MiB went in and {grown.output_mib:.0f} MiB came out; the gateway held "
        f"{grown.before_mib:.0f} MiB before, and {grown.most_mib:.0f} MiB at most"
    )
    flat = grown.mib <= large.MOST_GROWTH_MIB
    print(f"{int(flat)} passed, {int(not flat)} failed")
    sys.exit(0 if flat else 1)


if __name__ == "__main__":
    main()
