import re
from dataclasses import replace

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from torch.utils.flop_counter import FlopCounterMode

from latentdc import cli
from latentdc.cost import Hardware, describe
from latentdc.cost.methods import sweep
from latentdc.errors import InputError
from latentdc.priors.pixel import PixelPrior
from latentdc.recipe import (
    Data,
    Loops,
    Matching,
    ObjectiveSettings,
    PriorSettings,
    Prune,
    Recipe,
    Sampling,
    Select,
)
from latentdc.recipe.methods import MethodSettings
from tests import clusters
from tests.priors import small

PIXEL = Recipe(
    data=Data(resolution=8),
    prior=PriorSettings(kind="pixel"),
    objective=ObjectiveSettings(network="convnet3@8"),
    distill=Matching(lr_z=1.0, lr_c=1.0),
    ipc=3,
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prior")
    small.save(folder)
    return str(folder)


def lines(recipe: Recipe, **hardware) -> dict[str, str]:
    """Values by name."""
    pairs = [line.split(":", 1) for line in describe(recipe, Hardware(**hardware)).splitlines()]
    return {name: value.strip() for name, value in pairs}


def diffusion(weights: str, **options) -> Recipe:
    spec = PriorSettings(weights=weights, **{"steps": 4, "guidance": 2.0, **options})
    return replace(PIXEL, prior=spec)


def prior_gmac(recipe: Recipe) -> float:
    return float(re.search(r"([\d.,]+) of them", lines(recipe)["work per step"])[1])


@pytest.mark.smoke
@pytest.mark.parametrize("skip", ["x0", "mean"])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_sweep_counted_by_its_parts_is_one_counted_whole(guidance, skip):
    prior = small.prior(steps=3, guidance=guidance, skip=skip)
    z = torch.zeros(1, *prior.latent_shape)
    inputs = (z, prior.condition(torch.tensor([0])), z)
    with FlopCounterMode(display=False) as counter:
        prior.decode(*inputs)
    assert sweep(prior, inputs) == counter.get_total_flops() / 2 > 0


def test_pixels_cost_nothing_to_decode():
    image = torch.zeros(1, 3, 8, 8)
    assert sweep(PixelPrior(8), (image, None, None)) == 0


def test_training_students_between_steps_is_counted():
    def gmac(**options):
        spec = ObjectiveSettings(kind="dc", network="convnet3@64", batch=8, **options)
        told = lines(replace(PIXEL, ipc=50, objective=spec))["work per step"]
        return float(told.partition(" GMAC")[0].replace(",", ""))

    passes = 3 * 10 * 8 + 6 * 500
    single, trained = (gmac(loops=Loops(outer=n, inner=10)) for n in (1, 50))
    assert trained / single == pytest.approx(1 + 3 * 500 * 10 * 49 / 50 / passes, rel=0.05)


def test_images_latents_and_core_set_are_counted():
    told = lines(replace(PIXEL, prune=Prune(keep=0.5), distill=Matching(steps=1500, lr_z=1.0)))
    assert told["data"] == "digits, 8 px"
    assert told["training images"] == "1,437 of 10 classes"
    assert told["core set"] == "about 718 images"
    assert told["synthetic images"] == "30 (3 per class)"
    assert told["latents"] == "z (3, 8, 8) per image, 23 kB in all"  # 30 * 3 * 8 * 8 * 4 bytes
    assert told["steps"] == "1,500" and "denoiser" not in told


@pytest.mark.parametrize(
    ("kind", "rates", "trials"),
    [
        ("pixel", {}, 120),
        ("pixel", {"lr_z": 1.0}, 0),  # pixels have no conditions
        ("diffusion", {"lr_z": 1.0}, 120),
        ("diffusion", {"lr_z": 1.0, "lr_c": 0.1}, 0),
    ],
)
def test_trials_are_counted_where_a_rate_is_to_be_chosen(kind, rates, trials, weights):
    recipe = PIXEL if kind == "pixel" else diffusion(weights)
    told = lines(replace(recipe, distill=Matching(steps=100, **rates)))["steps"]
    assert told == ("220, up to 120 of them trials of rates" if trials else "100")


def test_chosen_classes_are_counted_alone():
    told = lines(replace(PIXEL, data=Data(resolution=8, classes=["1", "7"])))
    assert told["training images"] == "287 of 2 classes"
    assert told["synthetic images"] == "6 (3 per class)"


def test_a_named_subset_is_counted_alone():
    data = Data(source="ILSVRC/imagenet-1k", subset="a", resolution=8)
    told = lines(replace(PIXEL, data=data))
    assert told["training images"] == "12,812 of 10 classes"
    assert told["decoded images"] == "2.56 MB"  # (1,281,167 + 50,000) / 100 * 192 bytes


def test_mini_batches_of_classes_cost_their_share():
    whole = lines(PIXEL)
    part = lines(replace(PIXEL, distill=Matching(steps=1000, lr_z=1.0, classes_per_step=2)))
    assert part["classes per step"] == "2, so that each class is moved 200 times"
    assert "classes per step" not in whole and part["latents"] == whole["latents"]

    def gmac(told):
        return float(told["work per step"].split()[0])

    assert gmac(part) == pytest.approx(gmac(whole) / 5, abs=0.06)
    # z and its momentum: 30 images of 192 floats, twice
    assert part["memory per process"].startswith("46.1 kB of latents")


def test_denoiser_calls_are_counted_with_guidance_and_without(weights):
    assert lines(diffusion(weights), memory=1e9)["denoiser"] == (
        "4 calls per sweep, 240 samples with guidance; 1 sweep forward and 1 back per step"
    )
    assert "120 samples" in lines(diffusion(weights, guidance=1.0))["denoiser"]


def test_low_memory_costs_one_more_forward_sweep(weights):
    noise = {"ipc": 1000, "distill": Matching(init="noise")}
    fast, low = (replace(diffusion(weights, memory=m), **noise) for m in ("fast", "low"))
    assert "2 sweeps forward and 1 back" in lines(low)["denoiser"]
    assert prior_gmac(low) == pytest.approx(1.5 * prior_gmac(fast), abs=0.2)


def test_what_only_a_download_shows_is_said_to_be_unknown():
    there = lines(replace(PIXEL, data=Data(source="someone/pictures", resolution=8)))
    assert there["training images"] == "unknown until downloaded"
    assert "synthetic images" not in there


def test_a_prior_of_the_hub_is_looked_for_on_this_disk_alone(monkeypatch):
    asked = []

    def not_here(repo, **options):
        asked.append((repo, options["local_files_only"]))
        raise LocalEntryNotFoundError("not here")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", not_here)
    told = lines(diffusion("someone/prior"))
    assert told["prior"] == "someone/prior: unknown until downloaded"
    assert asked == [("someone/prior", True)]


def test_a_prior_that_is_wrong_is_refused_and_not_called_unknown(weights):
    with pytest.raises(InputError, match="latentdc ships"):
        describe(diffusion("digitz"))
    with pytest.raises(InputError, match="steps of 2 pixels"):
        describe(replace(diffusion(weights), data=Data(resolution=9)))


def sampling(weights: str, **settings) -> dict[str, str]:
    """Of three images of ten classes, four steps of two branches each."""
    method = {"method": MethodSettings(kind="sampling"), "sampling": Sampling(**settings)}
    return lines(replace(diffusion(weights), **method))


def test_samples_of_a_pool_are_counted_with_what_chooses_among_them(weights):
    plain = sampling(weights)
    assert plain["sampled images"] == "30, of which 30 stay"
    assert plain["samples denoised"] == "240 (with guidance)"
    assert plain["decoded and encoded"] == "30 and 0 images"
    pool = sampling(weights, select=Select(kind="confidence", groups=4))
    assert pool["sampled images"] == "120, of which 30 stay"
    assert pool["samples denoised"] == "960 (with guidance)"
    assert pool["decoded and encoded"] == "150 and 0 images"
    assert pool["networks of guides and choice"].startswith("120 through classifiers")
    assert "2 checkpoints of samples and the next one" in pool["disk"]
    anchors = {"anchors": {"kind": "centres"}, "start": "anchors"}
    assert sampling(weights, strength=0.5, **anchors)["samples denoised"] == "120 (with guidance)"
    decoded = sampling(weights, denoise=False, **anchors)
    assert decoded["samples denoised"] == "none"
    assert decoded["decoded and encoded"] == "30 and 1,440 images"  # of 1,437, class by class


def test_inversion_and_guides_that_go_back_are_counted(weights):
    gaussian = {"anchors": {"kind": "gaussian", "inverted": 5}, "start": "anchors"}
    assert sampling(weights, **gaussian)["samples denoised"] == (
        "240, 400 to invert (with guidance)"  # 5 images of 10 classes, 4 steps of 2 branches
    )
    influence = {"scale": 1, "network": "convnet3@8", "epochs": [0, 2], "window": [1, 3], "real": 4}
    told = sampling(weights, influence=influence)
    assert told["samples denoised"] == "240, 120 back for guides (with guidance)"
    assert told["decoded and encoded"] == "150 and 0 images"
    # gradients of real images, and those of each image in each step
    followed = 2 * 3 * 10 * 4 + 2 * 2 * 6 * 30
    assert told["networks of guides and choice"].startswith(f"{followed:,} through convnet3@8")
    assert told["snapshots"].endswith("(convnet3@8 in 2 epochs on 1,437 images)")
    assert "of snapshots" in told["disk"]
    features = sampling(weights, features={"scale": 1, "real": 2, "window": [0, 2]})
    assert features["samples denoised"].startswith("240 (with guidance), 160 through")


def test_both_stages_of_a_refinement_are_counted(weights):
    told = lines(replace(diffusion(weights), method=MethodSettings(kind="refine")))
    assert told["sampled images"] and told["steps"] == "1,000"
    assert all("MAC" in told[stage] for stage in ("sampling", "distilling"))


def test_a_plan_is_for_the_memory_that_is_told_and_the_least_where_none_is(weights):
    sizes = None, 1e5, 1e6, 1e9
    untold, small, middle, large = (lines(diffusion(weights), memory=m) for m in sizes)
    for told in (untold, small):
        assert "2 sweeps forward and 1 back" in told["denoiser"]
    assert "1.75 sweeps forward and 1 back" in middle["denoiser"]
    assert (
        "(mixed, 3 at a time with 3 of 12 denoising steps kept, for a device of 1 MB)"
        in (middle["memory per process"])
    )
    assert "1 sweep forward and 1 back" in large["denoiser"]
    assert "(low, 1 at a time; --device-memory=80GB says" in untold["memory per process"]
    assert "(fast, for a device of 1 GB)" in large["memory per process"]


def test_hours_are_told_for_a_given_rate_alone(weights):
    assert "hours" not in lines(PIXEL)
    told = lines(PIXEL, tflops=1e-6)
    work = 1e18 * float(told["total work"].split()[0])  # multiply-adds
    assert float(told["hours"].split()[0]) == pytest.approx(2 * work / 1e6 / 3600, rel=0.01)
    one, two = (lines(PIXEL, processes=n, tflops=1e-6)["hours"] for n in (1, 2))
    assert one.endswith("at 1e-06 TFLOP/s on 1 process, if it never waits")
    assert float(one.split()[0].replace(",", "")) == pytest.approx(
        2 * float(two.split()[0].replace(",", "")), rel=0.01
    )


def test_the_command_tells_hours_and_memory_of_a_device(capsys):
    short = ["data.resolution=8", "prior.kind=pixel", "prior.weights=null", "evaluate.rows=[]"]
    short += ["objective.network=convnet3@8", "prune.keep=1"]
    cli.main(["distill", "digits_ipc1", *short, "--dry-run", "--tflops=1", "--device-memory=1GB"])
    assert "at 1 TFLOP/s on 1 process, if it never waits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--tflops=400"], "--tflops is of a dry run; add --dry-run."),
        (["--dry-run", "--tflops=fast"], "a positive number such as 400, got 'fast'"),
        (["--dry-run", "--device-memory=80"], "a size such as 80GB or 80GiB, got '80'"),
    ],
)
def test_options_of_a_dry_run_that_cannot_be_are_refused_in_one_line(options, told, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["distill", "digits_ipc1", *options])
    printed = capsys.readouterr().err
    assert stop.value.code == 2 and told in printed and printed.count("\n") == 1


def test_sizes_and_rates_that_cannot_be_are_refused():
    with pytest.raises(InputError, match=r"Hardware\(tflops=...\) is a positive number, got 0"):
        Hardware(tflops=0)


def test_vectors_of_chosen_classes_are_counted_as_a_run_keeps_them(tmp_path):
    data = Data(kind="vectors", source=str(clusters.write(tmp_path)), classes=["2", "0"])
    objective = ObjectiveSettings(network="mlp@8", augment=None)
    recipe = Recipe(data=data, prior=PriorSettings(kind="vector"), objective=objective, ipc=1)
    assert lines(recipe)["training images"] == "80 of 2 classes"
    with pytest.raises(InputError, match="takes 42 different images of each class"):
        describe(replace(recipe, ipc=42), Hardware())
    with pytest.raises(InputError, match="has no class 'cat'"):
        describe(replace(recipe, data=replace(data, classes=["0", "cat"])), Hardware())
