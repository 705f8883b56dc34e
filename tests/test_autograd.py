"""Whatever trains does so inside of any modes of torch's, and to the same bits."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from threading import Event

import pytest
import torch
from accelerate import Accelerator

import latentdc
from latentdc.data.dataset import Dataset, random_images
from latentdc.draws import generator
from latentdc.experts.training import train_experts
from latentdc.priors.training import train_prior
from latentdc.prune.coreset import Coreset
from latentdc.prune.score_table import ScoreTable
from latentdc.recipe import Experts, Loops, ObjectiveSettings, Prune, Scorer, Trajectory
from latentdc.recipe.prior_training import AutoencoderTraining, PriorRecipe, UNetTraining
from latentdc.run import run
from latentdc.synthetic.synthetic_set import SyntheticSet, set_hash
from tests.experts.toys import Wanderers
from tests.priors import small
from tests.prune.toys import colours
from tests.test_on_step import TINY


@contextmanager
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        assert torch.get_default_dtype() == torch.float64
        torch.set_default_dtype(torch.float32)


@contextmanager
def rounded() -> Iterator[None]:
    """Products of float32 on bfloat16's units, on a CPU that has them."""
    torch.set_float32_matmul_precision("medium")
    try:
        yield
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    finally:
        torch.set_float32_matmul_precision("highest")


WITHOUT_GRADIENTS = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}
MODES = {
    **WITHOUT_GRADIENTS,
    "float64": double,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}
NORMALIZATION = latentdc.Normalization()


def pictures(per_class: int = 6) -> Dataset:
    count = 3 * per_class
    images = torch.randint(0, 256, (count, 3, 8, 8), generator=generator(0), dtype=torch.uint8)
    return Dataset(images, torch.arange(count) % 3, small.CLASSES, torch.arange(count), "toy")


def distilled(folder, kind: str) -> torch.Tensor:
    prior = small.load(folder, steps=2, memory="auto")
    objective = latentdc.build_objective(
        ObjectiveSettings(
            kind=kind,
            network="convnet3@8",
            batch=4,
            loops=Loops(outer=2, inner=1, batch_syn=4),
            trajectory=Trajectory(syn_steps=2, batch_syn=4, lr_student=0.01, lr_lr=1e-5),
        ),
        num_classes=3,
        resolution=8,
        normalization=NORMALIZATION,
        experts=Wanderers() if kind == "mtt" else None,
    )
    made = latentdc.match(
        pictures(), prior, objective, latentdc.Matching(steps=2), latentdc.Context(ipc=2)
    )
    assert made.z is not None and made.c is not None
    return torch.cat([made.images.flatten().float(), made.z.flatten(), made.c.flatten()])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["dm", "dc", "mtt"])
def test_distillation_is_the_same_in_any_mode(tmp_path, kind, mode):
    small.save(tmp_path)
    wanted = distilled(tmp_path, kind)
    with MODES[mode]():
        found = distilled(tmp_path, kind)
    assert found.equal(wanted)


def accuracies() -> tuple[object, ...]:
    data = pictures()
    protocol = latentdc.load_protocol("quick", students=["convnet3@2"], seeds=2, steps=3)
    sets = latentdc.with_baselines({"mine": data}, ["distilled", "random"], 2, train=data)
    results = latentdc.evaluate_sets(sets, data, protocol, normalization=NORMALIZATION)
    return tuple(result.accuracies for result in results)


def chosen() -> tuple[object, ...]:
    data, scorer = colours(32), Scorer(network="convnet3@16", epochs=5, batch=8, lr=0.1)
    kept = latentdc.prune_dataset(data, Prune(score="el2n", keep=0.5, scorer=scorer))
    scores = latentdc.score_dataset(data, Prune(columns=["aum"], scorer=scorer))
    return kept.hashes.tolist(), scores.column("loss").tolist(), scores.column("aum").tolist()


def test_products_on_a_cpu_are_float32_whatever_a_caller_allows(tmp_path):
    one, other = (torch.randn(256, 256, generator=generator(seed)) for seed in range(2))
    small.save(tmp_path)
    exact, wanted = one @ other, distilled(tmp_path, "dm")
    with rounded():
        if exact.equal(one @ other):
            pytest.skip("this CPU multiplies float32 in no other way")
        assert distilled(tmp_path, "dm").equal(wanted)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("work", [accuracies, chosen])
def test_evaluation_and_pruning_are_the_same_in_any_mode(work, mode):
    wanted = work()
    with MODES[mode]():
        assert work() == wanted


@pytest.mark.parametrize("mode", MODES)
def test_experts_are_the_same_in_any_mode(tmp_path, mode):
    def train(folder):
        folder.mkdir()
        settings = Experts(count=1, epochs=1, batch=4, lr=0.1)
        train_experts(
            pictures(), folder, settings, network="convnet3@2", normalization=NORMALIZATION,
            seed=0, accelerator=Accelerator(),
        )  # fmt: skip
        return {path.name: path.read_bytes() for path in folder.rglob("*.safetensors")}

    wanted = train(tmp_path / "a")
    with MODES[mode]():
        assert wanted and train(tmp_path / "b") == wanted


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_prior_is_the_same_in_any_mode(tmp_path, mode):
    recipe = PriorRecipe(
        autoencoder=AutoencoderTraining(channels=[16, 16], batch=8, steps=2),
        unet=UNetTraining(channels=[16, 16], heads=8, condition=8, batch=8, steps=2),
    )

    def train(folder):
        train_prior(recipe, "tiny", folder, "")
        files = (folder / "prior").rglob("*.safetensors")  # checkpoints tell seconds too
        return {path.parent.name: path.read_bytes() for path in files}

    wanted = train(tmp_path / "a")
    with MODES[mode]():
        assert len(wanted) == 3 and train(tmp_path / "b") == wanted


@pytest.mark.parametrize("mode", WITHOUT_GRADIENTS)
def test_a_loss_is_accumulated_without_gradients_around_it(mode):
    def gradient():
        objective = latentdc.build_objective(
            ObjectiveSettings(network="convnet3@8"),
            num_classes=3,
            resolution=8,
            normalization=NORMALIZATION,
        )
        with torch.inference_mode(False):
            images = torch.randn(3, 3, 8, 8, generator=generator(1)).requires_grad_()
            real = torch.randn(4, 3, 8, 8, generator=generator(2))
        objective.accumulate(0, images, torch.arange(3), lambda step, label: real)
        return images.grad

    wanted = gradient()
    with MODES[mode]():
        assert gradient().equal(wanted)


@pytest.mark.parametrize("fails", [False, True])
def test_a_call_in_another_thread_leaves_float32_to_those_that_still_run(fails):
    first_runs, second_runs, first_ended = Event(), Event(), Event()
    found = []

    class Rows:
        def __init__(self, look):
            self.look = look

        def __len__(self):
            return 2

        def __getitem__(self, row):
            self.look()
            return torch.full((3, 8, 8), 7, dtype=torch.uint8), row

    def wait():
        first_runs.set()
        assert second_runs.wait(60)
        if fails:
            raise KeyError

    def look():
        second_runs.set()
        assert first_ended.wait(60)
        pictures().select(torch.arange(2))  # such a call of its own
        found.append(torch.get_default_dtype())

    with double(), ThreadPoolExecutor(2) as pool:
        first = pool.submit(latentdc.Dataset.from_torch, Rows(wait))
        assert first_runs.wait(60)
        second = pool.submit(latentdc.Dataset.from_torch, Rows(look))
        assert (type(first.exception(60)) is KeyError) == fails
        first_ended.set()
        second.result(60)
    assert found and {*found} == {torch.float32}


def test_another_default_device_holds_no_data():
    levels = torch.randint(0, 256, (6, 8, 8, 3), generator=generator(3), dtype=torch.uint8).numpy()

    def opened():
        data = latentdc.Dataset.from_arrays(levels, [0, 1] * 3)
        coreset = latentdc.prune_dataset(data, Prune(score="random", keep=0.5))
        return data.select(coreset.indices(data)).images

    wanted = opened()
    with torch.device("meta"):
        found = opened()
    assert found.equal(wanted)


@contextmanager
def meta() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


def carried_out(folder, data, table, kept, synthetic) -> list[object]:
    """What files, choices and a run give, in plain types."""
    folder.mkdir()
    kept.save(folder / "coreset.parquet")
    table.save(folder / "scores.parquet")
    synthetic.save_pretrained(folder / "set")
    read = SyntheticSet.from_pretrained(folder / "set")
    results = run(TINY, "tiny", folder / "run")
    loaded = Coreset.load(folder / "coreset.parquet", data)
    return [
        set_hash(read),
        [part.tolist() for part in read.tensors().values()],
        set_hash(SyntheticSet(read.images, read.labels, read.class_names)),
        set_hash(read.first_of_each(2)),
        set_hash(read.rows([0, 2])),  # type: ignore[arg-type]
        [*read.storage().items()],
        ScoreTable.load(folder / "scores.parquet").column("loss").tolist(),
        latentdc.choose_coreset(table, data, Prune(keep=0.5)).scores.tolist(),
        loaded.scores.tolist(),
        loaded.different_counts(),
        loaded.different_indices(data).tolist(),
        Coreset.whole(data, "easy").scores.tolist(),
        data.different(0).tolist(),
        random_images(data, 2, 0).hashes.tolist(),
        [result.accuracies for result in results],
    ]


@pytest.mark.parametrize("mode", [meta, double])
def test_files_choices_and_runs_are_the_same_under_other_defaults(tmp_path, mode):
    data, scorer = colours(32), Scorer(network="convnet3@16", epochs=5, batch=8, lr=0.1)
    table = latentdc.score_dataset(data, Prune(scorer=scorer))
    kept = latentdc.prune_dataset(data, Prune(score="random", keep=0.5))
    soft = torch.zeros(len(data), data.num_classes)
    one = replace(SyntheticSet.from_real(data), soft_labels=soft, learned_lr=0.1)
    wanted = carried_out(tmp_path / "plain", data, table, kept, one)
    with mode():
        assert carried_out(tmp_path / "other", data, table, kept, one) == wanted
