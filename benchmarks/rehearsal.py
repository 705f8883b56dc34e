"""The recipe of ImageNet in small: all classes and stages, killed and resumed on fewer processes.

Makes 1,000 classes of small JPEGs and a tiny DiT of random weights in the layout of the Hub. Runs
`in1k_ipc10` on them once undisturbed on one process, and once on two that are killed in the middle
of the distillation, continued by one. Ends with an error if the two sets differ by more than
rounding. Prints the seconds of each stage beside what the dry run had counted.

python benchmarks/rehearsal.py [--classes 1000] [--real 12] [--steps 20] [--folder FOLDER]
"""

import argparse
import io
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image

from latentdc.draws import global_draws
from latentdc.io import read_json
from latentdc.recipe.subsets import imagenet_synonyms, wordnet_ids
from latentdc.runtime import device_name
from latentdc.synthetic.synthetic_set import SyntheticSet

ROOT = Path(__file__).parents[1]
SIZE, TESTED = 16, 2  # pixels; test images of each class
LATENT = 2  # channels
PATIENCE = 900  # seconds for any part
# Sums of other lengths round otherwise: of latents a part of their spread, of images levels.
LATENTS_AGREE, LEVELS_AGREE = 1e-3, 1


def main() -> None:
    parser = argparse.ArgumentParser(description="Rehearse the recipe of ImageNet in small.")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--real", type=int, default=12, help="training images of each class")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="kept; a temporary one by default")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        home = given.folder or Path(name)
        began = time.perf_counter()
        print(f"machine: {device_name(torch.device('cpu'))}, {len(os.sched_getaffinity(0))} cores")
        make_images(home / "data", given.classes, given.real)
        make_prior(home / "prior")
        print(f"making {given.classes:,} classes and a prior: {time.perf_counter() - began:.0f} s")
        rehearse(home, words(home, given.classes, given.steps))
        print(f"all of it: {time.perf_counter() - began:.0f} s")


def words(home: Path, classes: int, steps: int) -> list[str]:
    """What of the recipe is smaller here."""
    return [
        *("in1k_ipc10", f"data.source={home / 'data'}", f"data.resolution={SIZE}"),
        *("prune.scorer.network=convnet3@16", "prune.scorer.weights=null"),
        *("prune.scorer.lr=0.05", "prune.scorer.batch=128"),
        *("prune.scorer.epochs=3", f"prior.weights={home / 'prior'}"),
        *("objective.network=convnet3@16", f"distill.steps={steps}"),
        *(f"distill.classes_per_step={max(2, classes // 10)}", "distill.checkpoint_every=2"),
        *("evaluate.students=[convnet3@16]", "evaluate.seeds=1", "evaluate.steps=50"),
        *("ipc=1", "threads=1"),
    ]


def rehearse(home: Path, recipe: list[str]) -> None:
    """Run the recipe in both ways, print what they took, and compare them.

    Raises:
        SystemExit: a run failed, or the sets differ.
    """
    counted = call([*recipe, "--dry-run"], home / "dry run.log", home)
    whole, parts = home / "whole", home / "parts"
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, time.time()
    call([*recipe, f"output={whole}"], home / "whole.log", home)
    ended, used = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    print_stages(home, whole, began, ended, counted)
    size = sum(path.stat().st_size for path in (*files(whole), *files(home / "cache")))
    print(
        f"{'found:':<22}{size / 1e6:.1f} MB of disk, {used.ru_maxrss / 1e6:.2f} GB of memory "
        f"with imports, {used.ru_utime - before:.0f} s of a processor"
    )
    began = time.time()
    steps = kill_in_the_middle([*recipe, f"output={parts}"], parts, home)
    killed = time.time()
    call([*recipe, f"output={parts}"], home / "parts.log", home)
    print(f"two processes: killed after step {steps} and {killed - began:.0f} s")
    print(f"one process: went on and ended after {time.time() - killed:.0f} s")
    compare(whole, parts)


# ---- Runs ----


def start(command: list[str], log: Path, home: Path, processes: int = 1) -> subprocess.Popen[bytes]:
    """`latentdc.distill` on so many processes; what it says goes to the log."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "LATENTDC_CACHE": str(home / "cache"),
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    several = torchrun if processes > 1 else []
    with log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, *several, "-m", "latentdc.distill", *command],
            env=env,
            stdout=out,
            stderr=subprocess.STDOUT,
        )


def call(command: list[str], log: Path, home: Path) -> str:
    """What one process says that runs to its end."""
    run = start(command, log, home)
    if run.wait(PATIENCE):
        sys.exit(f"the run failed:\n{last_lines(log)}")
    return log.read_text()


def kill_in_the_middle(command: list[str], folder: Path, home: Path) -> int:
    """Start two processes, kill them once a checkpoint is there; returns its step."""
    log = home / "killed.log"
    run, patience = start(command, log, home, processes=2), time.monotonic() + PATIENCE
    while not (found := sorted(folder.glob("checkpoints/step-????????"))):
        if run.poll() is not None or time.monotonic() > patience:
            sys.exit(f"no checkpoint to kill the run at:\n{last_lines(log)}")
        time.sleep(0.02)
    launcher = psutil.Process(run.pid)
    for process in (launcher, *launcher.children(recursive=True)):
        process.kill()
    run.wait()
    if (folder / "synthetic").exists():
        sys.exit("the run was too fast to be killed; give it more --steps")
    return int(found[-1].name.removeprefix("step-"))


def last_lines(log: Path) -> str:
    """What it said last, without bars of progress."""
    return "\n".join(line for line in log.read_text().split("\n") if "\r" not in line)[-2000:]


# ---- What is printed ----


def print_stages(home: Path, run: Path, began: float, ended: float, counted: str) -> None:
    """Seconds of each stage, by the times of the files that it ends with."""
    opened = max(path.stat().st_mtime for path in files(home / "cache"))
    marks = {
        "opening": opened,
        "scoring": (run / "coreset.parquet").stat().st_mtime,
        "distilling": max(path.stat().st_mtime for path in files(run / "checkpoints")),
        "decoding and saving": (run / "grid.png").stat().st_mtime,
        "evaluating": (run / "results.json").stat().st_mtime,
        "saving results": ended,
    }
    told = dict(re.findall(r"^([^:\n]+): +(.+)$", counted, re.M))
    for name, mark in marks.items():
        said = [value for key, value in told.items() if key.startswith(name)]
        print(f"{name + ':':<22}{mark - began:7.1f} s   {'; '.join(said)}")
        began = mark
    for name in ("total work", "disk", "memory"):
        print(f"{name + ' counted:':<22}{told.get(name, 'nothing')}")


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def compare(whole: Path, parts: Path) -> None:
    """Print how the two sets and their accuracies differ; ends the script where it is too much."""
    one, other = (SyntheticSet.from_pretrained(run / "synthetic") for run in (whole, parts))
    if one.class_names != other.class_names or not torch.equal(one.labels, other.labels):
        sys.exit("the sets have other classes")
    failed = False
    for name in ("z", "c", "noise"):
        first, second = getattr(one, name), getattr(other, name)
        off = float((first - second).abs().max() / first.std())
        failed |= off > LATENTS_AGREE
        print(f"{name}: apart by {off:.1e} of its spread at most ({LATENTS_AGREE:.0e} allowed)")
    levels = (one.levels().int() - other.levels().int()).abs()
    failed |= int(levels.max()) > LEVELS_AGREE
    share = float((levels > 0).float().mean())
    print(f"images: apart by {int(levels.max())} levels at most, in {share:.2%} of their values")
    for first, second in zip(*map(accuracies, (whole, parts)), strict=True):
        print(f"accuracy of {first[0]}: {first[1]:.4f} and {second[1]:.4f}")
    if failed:
        sys.exit("the run that was killed ended otherwise")


def accuracies(run: Path) -> Iterator[tuple[str, float]]:
    for result in read_json(run / "results.json")["results"]:
        yield result["set"], float(result["mean"])


# ---- What it runs on ----


def make_images(home: Path, classes: int, real: int) -> None:
    """`train/<WordNet id>/*.JPEG` and `val/...`: noise over a pattern of each class."""
    draw = np.random.default_rng(0)
    for name in wordnet_ids()[:classes]:
        coarse = draw.integers(32, 224, (4, 4, 3)).repeat(4, axis=0).repeat(4, axis=1)
        for split, count in (("train", real), ("val", TESTED)):
            folder = home / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                noise = draw.integers(-32, 32, coarse.shape)
                file = io.BytesIO()
                Image.fromarray((coarse + noise).astype(np.uint8)).save(file, "JPEG", quality=95)
                (folder / f"{name}_{number}.JPEG").write_bytes(file.getvalue())


def make_prior(home: Path) -> None:
    """A DiT of all 1,000 classes as facebook/DiT-XL-2-256 lies on the Hub, with random weights."""
    from diffusers import AutoencoderKL, DDIMScheduler, DiTTransformer2DModel

    with global_draws(0, "rehearsal"):
        vae = AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=LATENT,
            norm_num_groups=4,
            sample_size=SIZE,
            mid_block_add_attention=False,
        )
        transformer = DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=4,
            in_channels=LATENT,
            out_channels=2 * LATENT,
            num_layers=2,
            sample_size=SIZE // 2,
            patch_size=2,
            num_embeds_ada_norm=len(wordnet_ids()),
        )
        for parameter in transformer.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        tables = [
            block.norm1.emb.class_embedder.embedding_table
            for block in transformer.transformer_blocks
        ]
        for table in tables[1:]:
            table.load_state_dict(tables[0].state_dict())
    vae.save_pretrained(home / "vae")
    transformer.save_pretrained(home / "transformer")
    DDIMScheduler(clip_sample=False).save_pretrained(home / "scheduler")
    names = {str(index): imagenet_synonyms(name) for index, name in enumerate(wordnet_ids())}
    index = {"_class_name": "DiTPipeline", "id2label": names}
    (home / "model_index.json").write_text(json.dumps(index))


if __name__ == "__main__":
    main()
