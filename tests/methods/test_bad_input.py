"""Wrong input of the main job: one clear line, exit code 2, nothing written or lost."""

from pathlib import Path

import datasets
import huggingface_hub
import pytest
import torch
from datasets import ClassLabel, Features, Image, Value

from latentdc import checkpoint
from latentdc.data.open import open_dataset
from latentdc.distill import main
from latentdc.errors import InputError, RunError
from latentdc.methods.context import Context
from latentdc.methods.matching import match, matching
from latentdc.priors.pixel import PixelPrior
from latentdc.prune.coreset import Coreset
from latentdc.recipe import Data, Matching
from latentdc.synthetic import SyntheticSet
from tests.data.conftest import picture
from tests.methods import setup
from tests.methods.command import RUN, contents, fails, refused, write_recipe
from tests.priors import small

PRUNED = ["prune.keep=0.1", "prune.scorer.network=convnet3@8", "prune.scorer.epochs=1"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LATENTDC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    write_recipe(tmp_path)
    return tmp_path


@pytest.fixture
def tree(tmp_path):
    """Two classes of pictures in folders: four to train on and two to test on, each."""
    for seed in range(12):
        split, name = ("train", "val")[seed >= 8], ("cat", "dog")[seed % 2]
        folder = tmp_path / "tree" / split / name
        folder.mkdir(parents=True, exist_ok=True)
        picture(seed).save(folder / f"{seed}.png")
    return tmp_path / "tree"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pcr=2", "unknown key 'pcr'; did you mean 'ipc'?"),
        ("distill.lrz=2", "did you mean 'distill.lr_z'?"),
        ("ipc=many", "ipc takes a whole number, got 'many'."),
        ("prune.keep=0", "prune.keep is a share in (0, 1], got 0.0"),
        ("prune.keep=20", "for 20 % write 0.2."),
        ("objective.network=convnet9", "unknown network 'convnet9'; did you mean 'convnet"),
        ("objective.network=convnet5", "convnet5 takes images of 32 px or more, got 8 px"),
        ("evaluate.protocol=quik", "did you mean 'quick'?"),
        ("evaluate.students=[resnet18]", "resnet18 takes images of 16 px or more"),
        ("output=quick.yaml", "cannot write to quick.yaml; name another folder"),
    ],
)
def test_a_wrong_recipe(capsys, override, message):
    assert message in refused(capsys, override)


def test_an_unknown_recipe(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["digit_ipc1"])
    assert stop.value.code == 2
    assert "did you mean 'digits_ipc1'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("precision=bf16", "precision=bf16, but Accelerate runs in no"),
        ("processes=2", "processes=2, but 1 run;"),
        ("trackers=[nothing]", "trackers: nothing cannot be used here"),
    ],
)
def test_a_recipe_that_contradicts_the_launcher(capsys, override, message):
    assert message in refused(capsys, override)


def test_a_push_without_login_is_refused_before_the_work(capsys, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert "nobody is logged in" in refused(capsys, "push.repo=user/name")


def test_a_teacher_that_cannot_know_the_classes_is_refused_before_the_work(capsys):
    line = refused(capsys, "evaluate.protocol=rded", "evaluate.rows=[distilled,random]")
    assert "ImageNet-1k has no class '0'" in line


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.train=trian"], "digits has the splits train and test, got data.train=trian"),
        (["data.classes=[1, eleven]"], "digits train has no class 'eleven'"),
        (["data.classes=['1', '1']"], "names '1' twice"),
        (["data.classes=['1']"], "a classifier needs two or more"),
        (["data.source=./nowhere"], "no folder ./nowhere"),
    ],
)
def test_a_data_set_that_does_not_exist(capsys, overrides, message):
    assert message in refused(capsys, *overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.image=picture"], "has no column 'picture'; its columns: img (Image), label (Clas"),
        (["data.label=lable"], "has no column 'lable'; did you mean 'label'?"),
        (["data.label=note"], "column 'note' of"),
        (["data.train=trian"], "has no split 'trian'; did you mean 'train'?"),
    ],
)
def test_an_unknown_column_or_split(capsys, tmp_path, overrides, message):
    kinds = Features(
        {"img": Image(), "label": ClassLabel(names=["cat", "dog"]), "note": Value("float32")}
    )
    (tmp_path / "hub" / "data").mkdir(parents=True)
    for split in ("train", "test"):
        rows = {"img": [picture(0), picture(1)], "label": [0, 1], "note": [0.5, 0.5]}
        path = tmp_path / "hub" / "data" / f"{split}-00000-of-00001.parquet"
        datasets.Dataset.from_dict(rows, features=kinds).to_parquet(path)
    assert message in refused(capsys, f"data.source={tmp_path / 'hub'}", *overrides)


def test_an_empty_class(capsys, tree):
    (tree / "train" / "eel").mkdir()
    (tree / "val" / "eel").mkdir()
    line = refused(capsys, f"data.source={tree}")
    assert "no images of 1 of its 3 classes: eel; name the classes to keep" in line


def test_an_unreadable_image_is_named_or_left_out_and_counted(capsys, tree):
    (tree / "train" / "cat" / "broken.png").write_bytes(b"no picture")
    line = refused(capsys, f"data.source={tree}")
    assert "train/cat/broken.png: it is no image" in line and "data.unreadable=skip" in line
    main(["quick.yaml", f"data.source={tree}", "data.unreadable=skip"])
    assert "left out 1 of 9 images" in capsys.readouterr().err
    assert (RUN / "synthetic").is_dir()


def test_a_data_set_that_cannot_be_downloaded_says_where_to_put_it(capsys, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", raising(ConnectionError("no network")))
    line = refused(capsys, "data.source=someone/pictures")
    assert "hf download REPO --repo-type dataset" in line and "pass data.source=FOLDER" in line


def raising(error):
    def refuse(*_, **__):
        raise error

    return refuse


def test_ipc_above_the_smallest_class_is_found_before_anything_is_scored(capsys, monkeypatch):
    monkeypatch.setattr("latentdc.prune.score.compute_scores", raising(AssertionError("scored")))
    line = refused(capsys, *PRUNED, "ipc=15")
    assert "ipc=15 is above the smallest class of the core set: '0' has 14 images" in line


def test_noise_needs_no_image_to_start_from(capsys):
    many = ("ipc=200", "distill.init=noise", "distill.steps=1")  # of 139 and more training digits
    assert "has 139 images" in refused(capsys, *many[:1])
    line = refused(capsys, *many, "evaluate.rows=[random]")
    assert "a random row of ipc 200 needs as many" in line
    assert "ipc=200 is above" in refused(capsys, *many, "evaluate.rows=[random,coreset]")
    main(["quick.yaml", *many])
    assert len(SyntheticSet.from_pretrained(RUN / "synthetic")) == 2000


def test_ipc_above_the_smallest_class_of_a_given_core_set(capsys, tmp_path):
    path = coreset(tmp_path, slice(0, 200))
    assert "ipc=100 is above the smallest" in refused(capsys, f"prune.coreset={path}", "ipc=100")


def coreset(folder, rows, shift=0):
    """A file with some of the training digits, their hashes shifted."""
    train = open_dataset(Data(resolution=8), "train")
    labels = train.labels[rows]
    path = folder / "mine.parquet"
    Coreset(
        hashes=train.hashes[rows] + shift,
        scores=torch.zeros(len(labels)),
        labels=labels,
        class_names=train.class_names,
        rule="random",
        order="easy",
        keep=0.5,
        dataset=train.name,
    ).save(path)
    return path


def test_a_core_set_of_other_images(capsys, tmp_path):
    path = coreset(tmp_path, slice(0, 200), shift=1)
    line = refused(capsys, f"prune.coreset={path}")
    assert "200 of the 200 images of the core set of digits train are missing" in line


def test_a_core_set_that_does_not_exist_or_is_something_else(capsys):
    assert "there is no file gone.parquet" in refused(capsys, "prune.coreset=gone.parquet")
    assert "cannot read the core set quick.yaml" in refused(capsys, "prune.coreset=quick.yaml")


def test_a_scorer_at_chance_leaves_no_run_folder(capsys):
    line = refused(capsys, *PRUNED, "prune.scorer.lr=1e-9")
    assert "of the images and chance is" in line


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "not ['0', '1', '2', '3', '4'] of the data set; use a prior trained on these"),
        (["data.resolution=9"], "works in steps of 2 pixels, got data.resolution=9"),
    ],
)
def test_a_prior_that_does_not_fit(capsys, tmp_path, overrides, message):
    small.save(tmp_path / "prior")
    prior = ["prior.kind=diffusion", f"prior.weights={tmp_path / 'prior'}"]
    assert message in refused(capsys, *prior, *overrides)


def test_weights_that_cannot_be_had(capsys, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", raising(ConnectionError("offline")))
    line = refused(capsys, "prior.kind=diffusion", "prior.weights=someone/prior")
    assert "`hf download someone/prior`; without: copy that folder here" in line
    assert "latentdc ships" in refused(capsys, "prior.kind=diffusion", "prior.weights=digitz")


def test_a_run_folder_of_another_recipe_is_left_as_it_is(capsys):
    main(["quick.yaml"])
    capsys.readouterr()
    line = refused(capsys, "distill.lr_z=2", "ipc=2")
    assert "distill.lr_z is 2.0 and was 1.0; ipc is 2 and was 1" in line
    main(["quick.yaml", "threads=2"])  # does not touch the set


def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(capsys):
    broken = ["distill.lr_z=1e38", "prior.clamp=false"]
    line = fails(capsys, 1, *broken, "distill.checkpoint_every=1")
    assert "the loss is nan at step 1; checkpoints from before are kept" in line
    kept = contents(RUN / "checkpoints")
    assert {path.split("/")[0] for path in kept} == {"step-00000001"}
    fails(capsys, 1, *broken, "distill.checkpoint_every=1")
    assert contents(RUN / "checkpoints") == kept and not (RUN / "synthetic").exists()


class Exploding:
    """A finite loss with an infinite gradient from the third step on."""

    scope = "class"
    sums_classes = True

    def accumulate(self, step, synthetic, labels, real):
        synthetic.grad = torch.full_like(synthetic, 0.0 if step < 2 else float("inf"))
        return torch.tensor(1.0)

    def state(self):
        return {}


def test_latents_that_are_not_finite_never_reach_a_checkpoint_or_a_set(tmp_path):
    def run(settings, context=None):
        return match(setup.dataset(), PixelPrior(8), Exploding(), settings, context)

    with pytest.raises(RunError, match="latents are no longer finite after 3 steps"):
        context = checkpoint.in_folder(tmp_path / "run", Context())
        run(Matching(steps=9, lr_z=1.0, checkpoint_every=1), context)
    kept = {path.split("/")[0] for path in contents(tmp_path / "run" / "checkpoints")}
    assert kept == {"step-00000001", "step-00000002"}
    with pytest.raises(RunError, match="after 3 steps"):
        run(Matching(steps=3, lr_z=1.0))


@pytest.mark.parametrize(
    ("z", "told"),
    [
        (torch.zeros(4, 3, 8, 8), r"shape \(3, 3, 8, 8\), got torch.float32 of \(4, 3, 8, 8\)"),
        (torch.zeros(3, 3, 4, 4), r"got torch.float32 of \(3, 3, 4, 4\)"),
        (torch.zeros(3, 3, 8, 8, dtype=torch.int64), "z holds floats of the shape .* torch.int64"),
        (torch.zeros(3, 3, 8, 8).numpy(), "in a ndarray, not a Tensor"),
        (torch.full((3, 3, 8, 8), float("nan")), "z holds values that are not finite"),
    ],
)
def test_latents_to_start_from_that_do_not_fit_are_refused(z, told):
    data = setup.dataset()
    assert data.num_classes == 3
    with pytest.raises(InputError, match=told):
        match(data, PixelPrior(8), Exploding(), Matching(steps=1, lr_z=1.0), z=z)


def test_a_folder_with_the_checkpoint_of_another_set_is_refused(tmp_path):
    setup.run(tmp_path, steps=2)
    with pytest.raises(InputError, match="made with ipc 2, this run has 3"):
        setup.run(tmp_path, steps=4, ipc=3)
    with pytest.raises(InputError, match="made with prior 'unnamed', this run has 'pixel-clamped'"):
        setup.run(tmp_path, steps=4, prior=PixelPrior(8))


def test_a_run_that_broke_before_its_first_checkpoint_does_not_block_a_corrected_recipe(capsys):
    fails(capsys, 1, "distill.lr_z=1e38", "prior.clamp=false")
    assert (RUN / "coreset.parquet").is_file()
    main(["quick.yaml"])
    steps = (RUN / "metrics.jsonl").read_text().splitlines()
    assert len(steps) == 4 and (RUN / "synthetic").is_dir()


class SmallDisk:
    """Lets `allowed` checkpoints through, then says what a full disk says."""

    def __init__(self, monkeypatch, allowed: int) -> None:
        self.left = allowed
        write = type(RUN).write_bytes

        def write_bytes(path, content):
            if path.name.startswith("process-") and "checkpoints" in path.parts:
                self.left -= 1
                if self.left < 0:
                    write(path, content[: len(content) // 2])
                    raise OSError(28, "No space left on device")
            return write(path, content)

        monkeypatch.setattr(type(RUN), "write_bytes", write_bytes)


def test_a_full_disk_leaves_the_former_checkpoint_from_which_the_run_goes_on(capsys, monkeypatch):
    main(["quick.yaml", "output=whole"])
    with monkeypatch.context() as patch:
        SmallDisk(patch, allowed=1)
        line = fails(capsys, 1)
    assert "the disk is full; finished files are whole, start again" in line
    kept = {path.split("/")[0] for path in contents(RUN / "checkpoints")}
    assert kept == {"step-00000002"} and len(list((RUN / "checkpoints").iterdir())) == 1
    main(["quick.yaml"])
    name = "synthetic/latents.safetensors"
    assert (RUN / name).read_bytes() == (RUN.parents[1] / "whole" / name).read_bytes()


def test_a_run_folder_may_be_named_as_a_url_begins():
    main(["quick.yaml", "output=a:b"])
    main(["quick.yaml", "output=a:b"])
    assert contents(Path("a:b")).keys() >= {"coreset.parquet", "recipe.yaml"}


def test_matching_without_an_objective_is_refused():
    coreset = Coreset.whole(open_dataset(Data(resolution=8), "train"), "easy")
    with pytest.raises(InputError, match="takes a prior and Context"):
        matching(coreset, None, Matching(), Context(ipc=1))
