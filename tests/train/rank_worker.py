"""One rank of a run that a test launches by torchrun."""

import sys
from pathlib import Path

from speechlm.train.run import run_training

if __name__ == "__main__":
    config, run, *overrides = sys.argv[1:]
    run_training("slm", Path(config), overrides, Path(run))
