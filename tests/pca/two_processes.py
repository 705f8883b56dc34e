"""Run by torchrun from test_main: all variants in two processes."""

import sys
from pathlib import Path

from latentdc.pca.__main__ import main
from tests.pca.calls import CALL

if __name__ == "__main__":
    main([*CALL, "--variants", "all", f"output={Path(sys.argv[1]) / 'run'}"])
