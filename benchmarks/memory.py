"""Peak memory of a recipe above importing torch, each in a process of its own.

python benchmarks/memory.py digits_ipc1 distill.steps=20 evaluate.steps=20
"""

import subprocess
import sys
import tempfile

MEASURE = """
import resource, sys
{work}
print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


def peak(work: str) -> float:
    """Largest resident set in GB of a Python process that does `work`."""
    script = MEASURE.format(work=work)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return float(done.stdout.split("PEAK")[-1])


def main() -> None:
    recipe = sys.argv[1:] or ["digits_ipc1"]
    with tempfile.TemporaryDirectory() as folder:
        arguments = [*recipe, f"output={folder}/run"]
        before = peak("import torch")
        after = peak(f"from latentdc.distill import main; main({arguments!r})")
    print(
        f"import torch {before:.2f} GB, {recipe[0]} {after:.2f} GB: {after - before:.2f} GB above"
    )


if __name__ == "__main__":
    main()
