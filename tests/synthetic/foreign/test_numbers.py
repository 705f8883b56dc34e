"""Class numbers of other people's sets, through the command line."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latentdc.cli import main
from latentdc.data.open import open_dataset
from latentdc.errors import InputError
from latentdc.recipe import Data
from latentdc.recipe.subsets import SUBSETS, wordnet_ids
from latentdc.synthetic import SyntheticSet
from latentdc.synthetic.foreign.numbers import Numbers
from latentdc.synthetic.open import find_set, open_set
from tests.synthetic.foreign.test_rows import rethinkdc_of

CALL = ["evaluate.students=[convnet3@2]", "evaluate.seeds=1", "evaluate.steps=2", "threads=1"]
TWELVE = [str(number) for number in range(12)]  # sorted 0, 1, 10, 11, 2, ..., 9


def pictures(kind: int, count: int, seed: int) -> np.ndarray:
    """(count, 8, 8, 3) noisy copies of the pattern that is this class."""
    pattern = np.random.default_rng(kind).integers(40, 216, (8, 8, 3))
    noise = np.random.default_rng((kind, seed)).integers(-30, 31, (count, 8, 8, 3))
    return np.clip(pattern + noise, 0, 255).astype(np.uint8)


def write(folder: Path, images: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index}.png")


def real(root: Path, names: list[str], recipe: str = "") -> None:
    """A data set of these classes, and a recipe of it as mine.yaml."""
    for kind, name in enumerate(names):
        write(root / "real" / "train" / name, pictures(kind, 20, seed=1))
        write(root / "real" / "test" / name, pictures(kind, 5, seed=2))
    (root / "mine.yaml").write_text(
        "data: {source: real, resolution: 8}\nevaluate: {rows: [distilled, random]}\n" + recipe
    )


@pytest.fixture
def twelve(tmp_path, monkeypatch):
    """Twelve classes called 0 to 11, of which 10 comes after 1, and 24 distilled pictures."""
    monkeypatch.chdir(tmp_path)
    real(tmp_path, TWELVE)
    return tmp_path


def distilled(kind: int) -> np.ndarray:
    return pictures(kind, 2, seed=3)


def evaluate(*words: str) -> None:
    main(["evaluate", *words, *CALL, "--recipe", "mine.yaml"])


def refused(capsys, *words: str) -> str:
    """The one line of an evaluation that ends at once."""
    with pytest.raises(SystemExit) as end:
        evaluate(*words)
    assert end.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if " error: " in line]
    assert len(lines) == 1 and not Path("runs", Path(words[0]).name).exists()
    return lines[0]


def opened(
    name: str, numbers: Numbers | None = None, classes: list[str] | None = None
) -> SyntheticSet:
    """The set as students would see it, in order of class."""
    data = Data(source="real", resolution=8, classes=classes)
    return open_set(find_set(name, numbers=numbers), open_dataset(data, "train"), data)[0]


def trained_on(name: str) -> str:
    """Hash of the images and labels that students saw."""
    rows = json.loads(Path("runs", Path(name).name, "evaluation.json").read_text())["results"]
    return next(row["hashes"][0] for row in reversed(rows) if row["set"] != "random")


def numbered_pt(path: str, kinds: list[int]) -> None:
    """Label k on the pictures of the k-th of these classes, in the order of sorted folders."""
    order = sorted(range(len(kinds)), key=lambda label: str(kinds[label]))
    images = np.concatenate([distilled(kinds[label]) for label in order]).transpose(0, 3, 1, 2)
    labels = torch.tensor(order).repeat_interleave(2)
    torch.save((torch.from_numpy(images.copy()), labels), path)


def test_numbers_that_are_names_are_names_in_folders_and_in_columns(twelve, capsys):
    for number in range(12):
        write(Path("plain", str(number)), distilled(number))
    images = [image for number in range(12) for image in distilled(number)]
    rethinkdc_of(twelve / "column", images, [n for n in range(12) for _ in range(2)])
    for name in ("plain", "column"):
        evaluate(name)
    assert trained_on("plain") == trained_on("column")
    assert not re.search("warning: .*class numbers", capsys.readouterr().err)


def test_where_numbers_may_be_names_or_positions_the_user_is_asked_and_obeyed(twelve, capsys):
    for number in range(12):
        write(Path("plain", str(number)), distilled(number))
        write(Path("padded", f"{number:05d}"), distilled(number))
        write(Path("sre2l", f"new{number:03d}"), distilled(number))
    numbered_pt("tensors.pt", list(range(12)))
    sets = ["padded", "sre2l", "tensors.pt"]
    for name in sets:
        error = refused(capsys, name)
        assert "numbers its classes" in error and "(0, 1, 10, 11, ...)" in error
        assert "Say --numbers names or --numbers positions." in error
    evaluate("plain")
    for name in sets:
        evaluate(name, "--numbers", "names")
        assert trained_on(name) == trained_on("plain")
    assert not re.search("warning: .*class numbers", capsys.readouterr().err)
    for name in sets:
        evaluate(name, "--numbers", "positions")
        assert trained_on(name) != trained_on("plain")
    said = capsys.readouterr().err
    assert said.count("read as positions, and 24 if the numbers are names; they are read as") == 3
    with pytest.raises(SystemExit):
        main(["measure", "padded", "--recipe", "mine.yaml"])
    assert "--numbers names or --numbers positions" in capsys.readouterr().err
    main(["measure", "padded", "--recipe", "mine.yaml", "--numbers", "names"])
    assert "24" in capsys.readouterr().out


def test_numbers_whose_images_fit_the_other_reading_are_refused_and_it_is_named(twelve, capsys):
    as_sorted = sorted(TWELVE)
    images = [image for name in as_sorted for image in distilled(int(name))]
    rethinkdc_of(twelve / "column", images, [n for n in range(12) for _ in range(2)])
    error = refused(capsys, "column")
    assert re.search(r"names 4 of 24 images of column .* read as names, and 24 if", error)
    assert "the numbers are positions. For that say --numbers positions;" in error
    evaluate("column", "--numbers", "positions")
    numbered_pt("tensors.pt", [int(name) for name in as_sorted])
    evaluate("tensors.pt", "--numbers", "positions")
    assert not re.search("warning: .*class numbers", capsys.readouterr().err)
    assert trained_on("tensors.pt") == trained_on("column")


def test_an_order_that_nobody_lists_is_warned_about_and_so_is_noise(twelve, capsys):
    kinds = [int(n) for n in sorted(TWELVE)]
    numbered_pt("cycled.pt", kinds[1:] + kinds[:1])
    evaluate("cycled.pt", "--numbers", "positions")
    said = capsys.readouterr().err
    assert "names 0 of 24 images of cycled.pt" in said and "classes in another order" in said
    assert "mostly names 0 as 1, 1 as 10, 10 as 11, ..." in said
    noise = torch.randint(0, 256, (24, 3, 8, 8), generator=torch.Generator().manual_seed(5))
    torch.save((noise, torch.arange(12).repeat_interleave(2)), "noise.pt")
    evaluate("noise.pt", "--numbers", "positions")
    assert "which is not beyond chance (8.3%)" in capsys.readouterr().err


def test_an_order_that_the_images_show_is_refused_until_it_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = sorted(["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay"])
    real(tmp_path, names)
    for number, name in enumerate(reversed(names)):
        write(Path("reversed", f"{number:05d}"), distilled(names.index(name)))
    error = refused(capsys, "reversed")
    order = f"'data.classes=[{','.join(reversed(names))}]'"
    assert "mostly names ant as jay" in error and f"({order} --numbers positions)" in error
    evaluate("reversed", order.strip("'"), "--numbers", "positions")
    assert "mostly names" not in capsys.readouterr().err


def test_the_network_that_checks_is_trained_once_or_is_the_recipes_scorer(
    twelve, capsys, monkeypatch
):
    monkeypatch.setenv("LATENTDC_CACHE", str(twelve / "cache"))
    for number in range(12):
        write(Path("plain", str(number)), distilled(number))
    evaluate("plain")
    first = capsys.readouterr().err
    (kept,) = Path("cache").glob("judge-*.safetensors")
    assert first.count("convnet3@32 is trained once on 240 real images") == 1
    assert str(kept) in first and "MAC)" in first
    evaluate("plain", "protocol=dm")
    assert "is trained once" not in capsys.readouterr().err
    soft = (
        "name: soft\nsteps: 2\nbatch: 8\nstudents: [convnet3@2]\nlabels: {source: fixed, loss: kl,"
    )
    teacher = "{network: convnet3@32, weights: teacher.safetensors}"
    Path("soft.yaml").write_text(f"{soft} teachers: [{teacher}]}}\n")
    kept.rename("teacher.safetensors")
    evaluate("plain", "protocol=soft.yaml")
    assert "is trained once" not in capsys.readouterr().err
    Path("teacher.safetensors").rename("scorer.safetensors")
    scorer = "prune: {scorer: {network: convnet3@32, weights: scorer.safetensors}}\n"
    Path("mine.yaml").write_text(Path("mine.yaml").read_text() + scorer)
    evaluate("plain", "protocol=mtt")
    assert "is trained once" not in capsys.readouterr().err
    assert not list(Path("cache").glob("judge-*"))


def test_columns_of_soft_labels_are_asked_about_too(twelve, capsys):
    order = sorted(range(12), key=str)
    images = np.concatenate([distilled(kind) for kind in order]).transpose(0, 3, 1, 2)
    labels = torch.tensor(order).repeat_interleave(2)
    shares = torch.eye(12)[labels] * 0.8 + 0.2 / 12
    torch.save((torch.from_numpy(images.copy()), shares), "named.pt")
    sorted_ = shares[:, torch.tensor(order)]
    torch.save((torch.from_numpy(images.copy()), sorted_), "placed.pt")
    assert "Say --numbers names or --numbers positions." in refused(capsys, "named.pt")
    evaluate("named.pt", "--numbers", "names")
    evaluate("placed.pt", "--numbers", "positions")
    assert trained_on("named.pt") == trained_on("placed.pt")


def test_numbers_inside_of_names_are_names_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    real(tmp_path, [f"class_{number}" for number in range(12)])
    for number in range(12):
        write(Path("padded", f"{number:05d}"), distilled(number))
        write(Path("named", f"class_{number}"), distilled(number))
    error = refused(capsys, "padded")
    assert "is 00002 the class called class_2, or the one at position 2" in error
    assert "which is class_10?" in error
    evaluate("padded", "--numbers", "names")
    evaluate("named")
    assert trained_on("padded") == trained_on("named")


def test_numbers_that_can_be_one_thing_alone_are_not_asked_about(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    real(tmp_path, [str(number) for number in range(1, 13)])  # sorted 1, 10, 11, 12, 2, ...
    for number in range(1, 13):
        write(Path("plain", str(number)), distilled(number))
        write(Path("padded", f"{number:05d}"), distilled(number))
    kinds = sorted(range(1, 13), key=str)
    images = np.concatenate([distilled(kind) for kind in kinds]).transpose(0, 3, 1, 2)
    torch.save((torch.from_numpy(images.copy()), torch.tensor(kinds).repeat_interleave(2)), "a.pt")
    for name in ("plain", "padded", "a.pt"):
        evaluate(name)
    assert len({trained_on(name) for name in ("plain", "padded", "a.pt")}) == 1


@pytest.mark.parametrize(
    "names",
    [
        [str(number) for number in range(1, 13)],
        [f"kind {number}" for number in range(1, 13)],
        [str(3 * number) for number in range(12)],
        [f"{number}.5 mm" for number in range(12)],
    ],
    ids=["from 1", "in words", "with gaps", "before words"],
)
def test_positions_among_classes_that_do_not_sort_by_number_are_asked_about(
    tmp_path, monkeypatch, names
):
    monkeypatch.chdir(tmp_path)
    real(tmp_path, names)
    for number, name in enumerate(names):
        write(Path("padded", f"{number:05d}"), distilled(number))
        write(Path("named", name), distilled(number))
    order = ",".join(json.dumps(name) if " " in name else name for name in names)
    with pytest.raises(InputError, match="than that of the numbers in their names") as error:
        opened("padded")
    assert f"'data.classes=[{order}]' --numbers positions" in str(error.value)
    counted = opened("padded", "positions", classes=names)
    assert torch.equal(counted.images, opened("named", classes=names).images)
    assert counted.class_names == tuple(names)


SPELLINGS = {
    "with a word": "class_{}",
    "padded with a word": "Class{:03d}",
    "of labels": "label-{:02d}",
    "in capitals": "NEW{:03d}",
    "short": "c{}",
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_numbers_are_read_in_all_spellings(tmp_path, monkeypatch, capsys, spelling):
    monkeypatch.chdir(tmp_path)
    names = sorted(["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay", "koi"])
    real(tmp_path, names)
    for number, name in enumerate(names):
        write(Path("spelled", spelling.format(number)), distilled(number))
        write(Path("named", name), distilled(number))
        write(Path("from_one", spelling.format(number + 1)), distilled(number))
    spelled, named, from_one = (opened(name) for name in ("spelled", "named", "from_one"))
    assert torch.equal(spelled.images, named.images) and torch.equal(from_one.images, named.images)
    said = capsys.readouterr().err
    assert said.count("numbers its classes from 1") == 1
    assert f"its {spelling.format(1)} is ant" in said


def test_names_in_another_case_or_with_other_gaps_are_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    real(tmp_path, ["café", "gas pump", "golf_ball"])
    for number, name in enumerate(["Cafe\u0301", "GAS_PUMP", "golf-ball"]):
        write(Path("near", name), distilled(number))
    for number, name in enumerate(["café", "gas pump", "golf_ball"]):
        write(Path("exact", name), distilled(number))
        write(Path("twice", name.upper()), distilled(number))
    write(Path("twice", "golf ball"), distilled(2))
    assert torch.equal(opened("near").images, opened("exact").images)
    with pytest.raises(InputError, match="twice has 3 classes that the test set has not: CAF"):
        opened("twice")


def test_a_folder_that_is_no_class_is_named_among_numbers(twelve, capsys):
    for number in range(12):
        write(Path("set", f"{number:05d}"), distilled(number))
    write(Path("set", "grids"), distilled(1))
    assert "set has 1 class that the test set has not: grids;" in refused(capsys, "set")


def test_numbers_in_the_order_of_a_papers_class_list_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    woof = [wordnet_ids()[index] for index in SUBSETS["imagewoof"]]
    ids = sorted(woof)
    real(tmp_path, ids)
    for number, wordnet_id in enumerate(woof):
        write(Path("listed", f"{number:05d}"), distilled(ids.index(wordnet_id)))
    error = refused(capsys, "listed")
    assert "20 if the numbers are positions in the class list of imagewoof" in error
    assert f"'data.classes=[{','.join(woof)}]' data.subset=null --numbers positions" in error
    evaluate(
        "listed", f"data.classes=[{','.join(woof)}]", "data.subset=null", "--numbers", "positions"
    )
    for number, wordnet_id in enumerate(ids):
        write(Path("sorted", f"new{number:03d}"), distilled(number))
        write(Path("of_imagenet", f"{wordnet_ids().index(wordnet_id):05d}"), distilled(number))
    evaluate("sorted")
    evaluate("of_imagenet")
    assert trained_on("sorted") == trained_on("of_imagenet")
    assert not re.search("warning: .*class numbers", capsys.readouterr().err)


def test_answers_that_cannot_be_given_are_refused(twelve, capsys):
    for name in ("cat", "dog"):
        write(Path("animals", "train", name), pictures(len(name), 2, 1))
        write(Path("animals", "test", name), pictures(len(name), 2, 2))
    write(Path("set", "0"), distilled(0))
    write(Path("set", "1"), distilled(1))
    error = refused(capsys, "set", "--numbers", "names", "data.source=animals")
    assert "--numbers names" in error and "not different numbers (cat, dog)" in error
    with pytest.raises(SystemExit):
        evaluate("set", "--numbers", "both")
    assert "invalid choice: 'both'" in capsys.readouterr().err
