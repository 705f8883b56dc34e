import os
import subprocess
import sys

import pytest
import torch

from tests.hub import SmallHub
from tests.synthetic.sets import NAMES, random_set

LOAD = """
import sys, datasets, numpy
rows = datasets.load_dataset("user/name", revision=sys.argv[1] if len(sys.argv) > 1 else None)
train = rows["train"]
print(len(train), train.features["label"].names)
numpy.save("first.npy", numpy.array(train[0]["image"]))
"""


@pytest.mark.slow
def test_the_commands_and_datasets_use_a_set_by_its_name(tmp_path):
    """Processes of their own, which find the Hub by HF_ENDPOINT alone."""
    synthetic = random_set()
    synthetic.save_pretrained(tmp_path / "set", recipe="ipc: 2\n")
    with SmallHub().running() as hub:

        def run(*words: str, token: str = "hf_write") -> subprocess.CompletedProcess[str]:
            changed = {"HF_ENDPOINT": hub.address, "HF_TOKEN": token, "HF_HUB_OFFLINE": "0"}
            changed |= {"HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "home")}
            changed |= {"HF_HUB_DISABLE_TELEMETRY": "1"}
            return subprocess.run(
                [sys.executable, *words],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **changed},
                capture_output=True,
                text=True,
                check=False,
            )

        done = run("-m", "latentdc", "push", "set", "user/name", "--license", "mit", "--tag", "v1")
        assert (done.returncode, done.stdout) == (0, f"{hub.address}/datasets/user/name\n")
        done = run("-c", LOAD, "v1")
        assert done.stdout.endswith(f"8 {list(NAMES)}\n"), done.stderr
        import numpy as np

        first = torch.from_numpy(np.load(tmp_path / "first.npy")).permute(2, 0, 1)
        assert torch.equal(first, synthetic.images[0])
        done = run("-m", "latentdc", "export", "user/name", "--format", "npz", "set.npz")
        assert done.returncode == 0 and np.load(tmp_path / "set.npz")["images"].shape[0] == 8
        done = run("-m", "latentdc", "push", "set", "user/name", token="hf_read")
        told = done.stderr.splitlines()[-1]
        assert done.returncode == 2 and told.startswith(
            "latentdc: error: the Hub refuses 'user/name'"
        )
