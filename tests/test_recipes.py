"""Every recipe that latentdc brings: it loads, its command accepts it, and it can be counted."""

import socket
from dataclasses import replace

import diffusers
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from latentdc import cli, config
from latentdc.distill import check
from latentdc.errors import InputError
from latentdc.networks import build_network
from latentdc.recipe import Recipe, Sampling, Select
from latentdc.recipe.sampling import GUIDES
from latentdc.recipe.subsets import SUBSETS, subset_indices, wordnet_ids
from latentdc.sweep.spec import Sweep, expand
from tests.priors import small

SHIPPED = config.shipped_folder("recipes")
PRIORS = sorted((SHIPPED / "priors").glob("*.yaml"), key=str)
SWEEPS = sorted((SHIPPED / "sweeps").glob("*.yaml"), key=str)
RUNS = sorted(SHIPPED.glob("*.yaml"), key=str)
METHODS = sorted((SHIPPED / "methods").glob("*.yaml"), key=str)
SETS = ("digits", "cifar10", "nette", "in1k")


def name(path) -> str:
    return path.stem


@pytest.fixture(autouse=True)
def no_network_and_no_weights(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise AssertionError("a dry run needs neither a network nor weights")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(diffusers.ModelMixin, "from_pretrained", refuse)
    monkeypatch.chdir(tmp_path)


def test_all_recipes_are_seen():
    assert {"digits_ipc1", "cifar10_ipc10", "imagenette_ipc10", "in1k_ipc10"} <= {
        path.stem for path in RUNS
    }
    assert {"digits", "cifar10"} <= {path.stem for path in PRIORS}
    assert {*RUNS, *PRIORS, *SWEEPS, *METHODS} == {*SHIPPED.rglob("*.yaml")}


def test_recipes_of_cifar_10_normalise_alike_so_that_their_results_can_be_compared():
    recipes = [config.load(Recipe, path) for path in (*RUNS, *METHODS)]
    seen = {(r.data.mean, r.data.std) for r in recipes if "cifar10" in r.data.source}
    assert seen == {((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))}
    for path in SWEEPS:
        assert "data.std" not in path.read_text() and "data.mean" not in path.read_text()


@pytest.mark.parametrize("path", RUNS, ids=name)
def test_a_recipe_is_accepted_and_says_how_to_run_it(path, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["distill", str(path), "--print-config"])
    assert stop.value.code == 0, capsys.readouterr().err
    assert f"latentdc.distill recipes/{path.name}" in path.read_text()


@pytest.mark.parametrize("path", SWEEPS, ids=name)
def test_every_cell_of_a_sweep_is_accepted(path, capsys):
    cli.main(["sweep", str(path), "--print-config"])
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == f"{len(printed) - 1} cells" and len(set(printed)) == len(printed) > 5
    assert f"latentdc sweep sweeps/{path.stem}" in path.read_text()


# Another recipe with a prior of the same kind is counted too, and each method on digits.
LIKE = {"ld3m_dm", "ld3m_mtt", "in1k_ipc10", "cifar10_ipc10_gpu"}
LIKE |= {"ablation", "methods", "rates", "refine"}  # sweeps of many cells
LIKE |= {path.stem for path in METHODS if not path.stem.endswith("_digits")} - {"cao2_in1k"}
COMMAND = {"sweeps": "sweep", "priors": "train-prior"}  # of a folder; that of the others is distill
COUNTED = [
    pytest.param(path, marks=pytest.mark.slow if path.stem in LIKE else (), id=path.stem)
    for path in (*RUNS, *METHODS, *PRIORS, *SWEEPS)
]


@pytest.mark.parametrize("path", COUNTED)
def test_a_recipe_can_be_counted_before_anything_is_downloaded(path, capsys, tmp_path):
    command = COMMAND.get(path.parent.name, "distill")
    cli.main([command, str(path), "--dry-run", "--tflops", "100", "--device-memory", "80GB"])
    printed = capsys.readouterr().out
    assert "unknown" not in printed and "nan" not in printed
    assert "total work:" in printed and "at 100 TFLOP/s on 1 process" in printed
    assert list(tmp_path.iterdir()) == []
    if command != "distill":
        return
    recipe = config.load(Recipe, path)
    through = recipe.method.kind == "matching" and recipe.prior.kind == "diffusion"
    assert "training images:" in printed and "evaluating " in printed
    assert ("denoiser:" in printed) == (through or recipe.method.kind == "refine")
    assert ("work per step:" in printed) == recipe.matches
    assert ("samples denoised:" in printed) == (recipe.method.kind in ("sampling", "refine"))


def test_every_method_that_samples_has_a_recipe_for_each_set_and_is_accepted():
    names = {path.stem.rpartition("_")[0] for path in METHODS}
    assert names >= {"plain", "centres", "d4m", "ddoq", "mgd3", "dap", "igd", "d3hr", "s3", "dmgd"}
    small = {"refine": ("digits", "cifar10")}  # ours, and not sized for ImageNet
    every = {f"{name}_{one}" for name in names for one in small.get(name, SETS)}
    assert {path.stem for path in METHODS} == every and names > {"cao2", "refine"}
    for path in METHODS:
        recipe = config.load(Recipe, path)
        check(recipe)
        kind = "refine" if path.stem.startswith(("cao2", "refine")) else "sampling"
        assert recipe.method.kind == kind and recipe.ipc == 10
        assert f"latentdc.distill recipes/methods/{path.name}" in path.read_text()


@pytest.mark.parametrize("path", METHODS, ids=name)
def test_every_method_stands_beside_plain_samples_and_easy_images_by_one_command(path):
    sweep = replace(config.load(Sweep, SHIPPED / "sweeps/beside.yaml"), recipe=str(path))
    cells = {row: recipe for (row, one), recipe in expand(sweep).items() if one == "0"}
    own, plain = cells["recipe"], cells["plain"]
    assert own == config.load(Recipe, path)
    assert plain.method.kind == "sampling" and not plain.sampling.guides
    unused = {name: getattr(plain.sampling, name) for name in (*GUIDES, "batch")}
    assert {f"sampling.{one}.scale=0" for one in GUIDES} <= {*sweep.axes["row"]["plain"]}
    select = replace(Select(), **{**vars(plain.sampling.select), "kind": None})
    anchors = replace(plain.sampling.anchors, kind="none")
    assert plain.sampling == Sampling(**unused, select=select, anchors=anchors)
    assert (plain.data, plain.prior, plain.ipc) == (own.data, own.prior, own.ipc)
    easy = cells["easy core set"]
    assert easy.method.kind == "selection" and easy.prune.order == "easy"
    assert easy.evaluate == plain.evaluate == own.evaluate
    if not path.stem.startswith("plain"):
        assert f"latentdc sweep sweeps/beside --recipe methods/{path.stem} " in path.read_text()


PRUNED = ("digits_ipc1", "cifar10_ipc10", "imagenette_ipc10", "in1k_ipc10")


@pytest.mark.parametrize("stem", PRUNED)
def test_a_recipe_that_prunes_stands_beside_the_easiest_of_all_images(stem):
    sweep = replace(config.load(Sweep, SHIPPED / "sweeps/beside.yaml"), recipe=stem)
    easy = expand(sweep)["easy core set", "0"]
    assert (easy.prune.keep, easy.prune.coreset, easy.prune.score) == (1, None, "loss")


def test_the_sweep_of_methods_has_the_settings_of_their_recipes():
    cells = expand(config.load(Sweep, SHIPPED / "sweeps/methods.yaml"))
    shipped = {path.stem.removesuffix("_digits") for path in METHODS if "digits" in path.stem}
    names = {name for name, _, _ in cells}
    assert names - shipped == {
        *("LD3M", "pixels DM", "easy core set", "s3 core set", "gist core set", "PCA", "RDED"),
    }
    assert shipped < names
    for name in shipped:
        cell = cells[name, "0", "10"]
        recipe = config.load(Recipe, SHIPPED / f"methods/{name}_digits.yaml")
        assert (cell.sampling, cell.prior) == (recipe.sampling, recipe.prior)
        assert cell.prune.keeps_all or cell.prune.count == recipe.prune.count
        if cell.matches:
            assert cell.objective.kind == recipe.objective.kind
            assert cell.objective == recipe.objective or cell.objective.kind == "denoise"
            checkpoints = recipe.distill.checkpoint_every
            assert replace(cell.distill, checkpoint_every=checkpoints) == recipe.distill


PUBLISHED = {  # LD3M's settings: objective, rate of z and c, share of the core set
    "ld3m_dc": ("dc", 0.1, 0.6),
    "ld3m_dm": ("dm", 1.0, 0.2),
    "ld3m_mtt": ("mtt", 500.0, 0.6),
}


@pytest.mark.parametrize("recipe", PUBLISHED)
@pytest.mark.parametrize(("resolution", "depth"), [(128, 5), (256, 6), (512, 7)])
def test_the_grid_of_the_papers_is_a_recipe_and_overrides(recipe, resolution, depth):
    kind, rate, keep = PUBLISHED[recipe]
    for ipc in (1, 10, 50):
        overrides = [f"data.resolution={resolution}", f"ipc={ipc}"]
        made = config.load(Recipe, SHIPPED / f"{recipe}.yaml", overrides)
        check(made)
        assert (made.objective.kind, made.prune.keep, made.prune.order) == (kind, keep, "easy")
        assert made.distill.lr_z == made.distill.lr_c == rate
        for subset in SUBSETS:
            chosen = replace(made, data=replace(made.data, subset=subset))
            assert len(subset_indices(chosen.data.subset)) == 10
    student = build_network(f"{made.objective.network}@4", num_classes=10, resolution=resolution)
    assert student.linear.in_features == 4 * 4 * 4
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in student.modules()) == depth


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "overrides", "told"),
    [
        (
            "ld3m_dc",
            ["data.resolution=256", "prior.steps=20", "ipc=10"],
            "z (3, 64, 64), c (1, 512)",
        ),
        ("ld3m_mtt", ["data.resolution=512", "data.subset=e"], "12,812 of 10 classes"),
        (
            "ld3m_dm",
            ["prior.weights=ffhq", "prior.guidance=1", "prior.denoiser=random"],
            "10 calls per sweep, 100 samples; ",
        ),
        (
            "ld3m_dm",
            [
                "data.subset=null",
                "prior.weights=facebook/DiT-XL-2-256",
                "distill.classes_per_step=100",
            ],
            "100, so that each class is moved 1,000 times",
        ),
    ],
)
def test_a_sample_of_the_grid_dry_runs(recipe, overrides, told, capsys):
    cli.main(["distill", recipe, *overrides, "--dry-run"])
    printed = capsys.readouterr().out
    assert told in printed and "unknown" not in printed


def test_the_outline_of_ld3ms_prior_has_the_published_size():
    prior = small.load("cin256", resolution=256, device="meta")
    assert sum(p.numel() for p in prior.denoiser.network.parameters()) == 400_920_579
    assert prior.latent_shape == (3, 64, 64) and prior.class_names == wordnet_ids()


def test_the_outline_of_the_faces_prior_has_the_published_size():
    prior = small.load("ffhq", resolution=256, guidance=1, device="meta")
    assert sum(p.numel() for p in prior.denoiser.network.parameters()) == 274_056_163
    assert prior.latent_shape == (3, 64, 64) and prior.class_names is None


@pytest.mark.parametrize(
    ("name", "yaml"), [("cin256", "cin256-v2.yaml"), ("ffhq", "ffhq-ldm-vq-4.yaml")]
)
def test_a_prior_that_is_to_be_converted_first_says_how(name, yaml):
    told = rf"convert-prior model\.ckpt --config {yaml} {name}.*=facebook/DiT-XL-2-256"
    with pytest.raises(InputError, match=told):
        small.load(name, resolution=128)


@pytest.mark.parametrize("path", PRIORS, ids=name)
def test_the_recipe_of_a_prior_is_accepted_and_says_how_to_run_it(path, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["train-prior", str(path), "--print-config"])
    assert stop.value.code == 0, capsys.readouterr().err
    assert f"latentdc.priors.train recipes/priors/{path.name}" in path.read_text()


def test_a_sample_of_dit_xl_costs_what_its_authors_count():
    prior = small.load("facebook/DiT-XL-2-256", resolution=256, device="meta")
    z = torch.empty(1, *prior.latent_shape, device="meta")
    c = prior.condition(torch.zeros(1, dtype=torch.long, device="meta"))
    with FlopCounterMode(display=False) as counter:
        prior.denoiser(z, torch.tensor(999, device="meta"), c)
    gmac = counter.get_total_flops() / 2 / 1e9
    assert 118.6 < gmac < 118.7
    assert prior.latent_shape == (4, 32, 32)
