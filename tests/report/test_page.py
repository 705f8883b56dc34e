"""The page of runs: what it says, and that nothing in it acts or leaves."""

import base64
import dataclasses
import hashlib
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from latentdc import cli
from latentdc.report import page
from latentdc.report.images import captions, nearest_real
from latentdc.results.result import load, save
from tests.prune.toys import colours
from tests.report.toys import ATTACK, Parsed, pruned_folder, run_folder, synthetic_set
from tests.results.toys import table

ACTIVE = {"iframe", "object", "embed", "link", "base", "audio", "video"}


def written(folder, *words):
    """The page that the command writes of a folder."""
    cli.main(["report", str(folder), *map(str, words)])
    return (folder / "report.html").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return run_folder(tmp_path_factory.mktemp("runs") / "mine")


@pytest.fixture(scope="module")
def found(folder):
    return Parsed(written(folder))


def test_no_text_acts_wherever_it_comes_from(found):
    assert len(found.all("script")) == 2 and len(found.all("style")) == 1
    assert all(one["src"].startswith("data:image/") for one in found.all("img"))
    assert not ACTIVE & {tag for tag, _ in found.tags}
    attributes = {name for _, given in found.tags for name in given}
    assert not [name for name in attributes if name.startswith("on") or name == "style"]
    assert "href" not in attributes
    assert ATTACK in found.text  # a class, as it is
    assert found.text.count("onerror=alert(1)>") >= 5  # in facts //... is taken for a path


def test_the_page_tells_the_command_that_a_run_was_begun_by(tmp_path):
    made = {"command": "latentdc distill /home/me/mine.yaml '<b>x'"}
    synthetic = synthetic_set(provenance={"dataset": "x", "method": "matching", "made": made})
    found = Parsed(written(run_folder(tmp_path / "mine", synthetic)))
    assert "latentdc distill mine.yaml '<b>x'" in found.text and "/home/me" not in found.text
    assert "latentdc distill recipe.yaml output=runs/again" in found.text
    assert len(found.all("script")) == 2


def test_the_policy_allows_the_pages_own_style_and_script_and_images_alone(found):
    policy = found.all("meta")[1]["content"]
    hashes = re.findall(r"'sha256-([^']+)'", policy)
    own = (found.raw["style"][0], found.raw["script"][-1])
    assert hashes == [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in own
    ]
    rest = re.sub(r" 'sha256-[^']+'", "", policy)
    assert rest == (
        "default-src 'none'; img-src data:; style-src; script-src; base-uri 'none'; "
        "form-action 'none'"
    )


def test_the_results_travel_as_json_in_which_no_tag_ends(found):
    content = found.raw["script"][0]
    assert "<" not in content
    rows = json.loads(content)
    first = dict(zip(rows["columns"], rows["data"][0], strict=True))
    assert (first["name"], first["accuracy"], first["machine.device"]) == ("mine", 0.5, ATTACK)


def test_it_says_first_what_was_done_and_what_came_out(found):
    said = found.text
    assert "4 images of 8 x 8 pixels, 2 in each of 2 classes" in said
    assert "Made by matching, 30 steps." in said
    assert "test accuracy of 62.5 ± 17.7 %, of as many random real images 25.0 ± 0.0 %" in said
    assert "+37.5 ± 12.5 points, paired by seed" in said
    assert "Cost: 900 bytes; 15 seconds of distillation" in said
    assert "minus random (ipc 1)" in said and "2 seeds, hard labels" in said
    assert "latentdc distill recipe.yaml" in said and "someone" not in said


def test_classes_are_named_in_words_and_images_are_whole(found):
    titles = [one.get("title") for one in found.all("figcaption")]
    assert "n01440764" in titles and "tench" in found.text
    images = [one["src"] for one in found.all("img")]
    assert len(images) == 4
    content = base64.b64decode(images[0].partition(",")[2])
    with Image.open(io.BytesIO(content)) as picture:
        pixels = torch.from_numpy(np.array(picture))
    assert torch.equal(pixels.permute(2, 0, 1), synthetic_set().images[0])


def test_classes_of_the_same_words_are_told_apart(tmp_path):
    names = ("n02012849", "n03126707")  # a bird and a machine, both `crane`
    found = Parsed(written(run_folder(tmp_path / "mine", synthetic_set(class_names=names))))
    tips = [given["data-tip"] for _, given in found.tags if given.get("class") == "tile"]
    for name in names:
        assert f"crane ({name})" in found.texts and f"crane ({name}), 1 of 2" in tips


def test_a_class_is_not_called_by_its_own_name_twice():
    assert captions(("crane", "n02012849")) == {"crane": "crane", "n02012849": "crane (n02012849)"}


def test_one_class_is_written_in_the_singular(tmp_path):
    one = synthetic_set(labels=torch.zeros(4, dtype=torch.int64), class_names=("cat",))
    assert "1 class: 'cat'" in repr(one)
    folder = run_folder(tmp_path / "mine", one)
    assert "4 in each of 1 class, in place of" in Parsed(written(folder)).text
    assert "4 in each of 1 class.\n" in (folder / "synthetic/README.md").read_text()


def test_no_name_turns_the_line_that_it_stands_in(tmp_path):
    names = ("b\u202ecba", "\u2066c")
    folders = [run_folder(tmp_path / name, synthetic_set(class_names=names)) for name in ("x", "y")]
    folders[0] = folders[0].rename(tmp_path / "evil \u202egnp")
    text = page.write(tmp_path / "both.html", folders).read_text()
    assert not {"\u202e", "\u2066"} & {*text}
    assert r"(evil \u202egnp), of as many" in text and r"b\u202ecba" in text


def test_copies_of_a_set_have_their_own_names_and_accuracies(tmp_path):
    folders = [
        run_folder(tmp_path / name, accuracies=values)
        for name, values in (("mine", (0.5, 0.75)), ("theirs", (0.25, 0.5)))
    ]
    text = page.write(tmp_path / "both.html", folders).read_text()
    assert re.findall("<summary>(.*, convnet3@4 .*?),", text) == [
        "mine, convnet3@4 62.5 %",
        "theirs, convnet3@4 37.5 %",
    ]


def test_values_of_curves_and_frontiers_are_under_the_pointer(found):
    tips = [given["data-tip"] for _, given in found.tags if "data-tip" in given]
    assert "mine, step 0: 1" in tips and "mine, step 29: 0.03333" in tips
    assert "mine: 62.5 ± 17.7 %, 900 bytes" in tips
    titles = [title for title in found.texts if "over steps" in title or "storage" in title]
    assert titles == [
        *("Accuracy and storage: convnet3@4", "Accuracy and storage: alexnet@2"),
        "Loss over steps",
    ]


def test_real_images_are_shown_on_demand_alone(tmp_path):
    folder, train = run_folder(tmp_path / "mine"), colours(12, names=synthetic_set().class_names)
    shown = []
    for real in (None, lambda: train):
        found = Parsed(page.write(tmp_path / "x.html", [folder], real=real).read_text())
        shown.append([one["src"] for one in found.all("img")])
    assert len(shown[0]) == 4 and len(shown[1]) == 8 and set(shown[0]) < set(shown[1])
    assert "nearest real training image" in found.text
    image = synthetic_set().images[1]
    row, distance = nearest_real(image, train, train.members(1))
    gaps = [
        float((train.images[r] - image.float()).square().mean().sqrt()) for r in range(1, 12, 2)
    ]
    assert distance == pytest.approx(min(gaps) / 255) and row == 1 + 2 * gaps.index(min(gaps))


def test_the_real_option_opens_the_data_of_the_recipe(tmp_path, capsys, monkeypatch):
    run_folder(tmp_path / "a", synthetic_set(side=16, class_names=("0", "1")))
    (tmp_path / "a/recipe.yaml").write_text("data: {source: digits, resolution: 16}\n")
    found = Parsed(written(tmp_path / "a", "--real"))
    assert len(found.all("img")) == 8
    (tmp_path / "a/recipe.yaml").unlink()
    monkeypatch.setattr(page, "write", None)  # before any run is read
    with pytest.raises(SystemExit) as end:
        cli.main(["report", str(tmp_path / "a"), "--real"])
    assert end.value.code == 2 and "--real opens the data" in capsys.readouterr().err


def test_real_images_are_not_shown_beside_a_set_that_was_made_of_others(tmp_path, capsys):
    names = synthetic_set().class_names
    train, other = colours(12, names=names), colours(14, names=names)
    for name, data in {"a": train, "b": other}.items():
        made = {"made": {"data_hash": data.hash}}
        run_folder(tmp_path / name, synthetic_set(provenance=made))
    folders = [tmp_path / "a", tmp_path / "b"]
    found = Parsed(page.write(tmp_path / "x.html", folders, real=lambda: train).read_text())
    assert len(found.all("img")) == 4 + 8
    assert f"no real images beside b, made of others than {train.name}" in capsys.readouterr().err


def test_what_a_page_refuses_is_refused_before_real_images_are_opened(tmp_path, capsys):
    run_folder(tmp_path / "a")
    (tmp_path / "a/recipe.yaml").write_text("data: {source: /nowhere, resolution: 16}\n")
    with pytest.raises(SystemExit):
        cli.main(["report", str(tmp_path / "a"), "--real", "--against", "nobody"])
    assert "--against nobody: there is no such set" in capsys.readouterr().err


def test_results_that_tell_no_device_have_a_page(tmp_path):
    rows = table(None, {"all": {"machine": {}}}, distilled=((0.5, 0.75),))
    save(tmp_path / "results.json", rows)
    assert "Cost: not recorded." in page.write(tmp_path / "x.html", [tmp_path]).read_text()


def test_a_run_that_is_given_twice_is_one(tmp_path):
    folder = run_folder(tmp_path / "a")
    for again in (folder, tmp_path / "a/../a", folder / "synthetic"):
        found = Parsed(page.write(tmp_path / "x.html", [folder, again]).read_text())
        assert "2 synthetic sets" not in found.text and len(found.all("img")) == 4


def test_a_page_may_be_named_from_the_home_folder(tmp_path, monkeypatch):
    run_folder(tmp_path / "a")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    cli.main(["report", "a", "--output=~/x.html"])
    assert (tmp_path / "x.html").is_file() and not (tmp_path / "~").exists()


def test_a_pruning_has_histograms_and_with_real_images_the_ends_of_each_class(tmp_path):
    train = colours(12, names=synthetic_set().class_names)
    folder = pruned_folder(tmp_path, train)
    found = Parsed(written(folder))
    assert "4 of 12 images of colours train in 2 classes kept by loss, easy." in found.text
    tips = [one["data-tip"] for one in found.all("rect")]
    assert sum(int(re.search(r": (\d+) images?", tip)[1]) for tip in set(tips)) == 24  # two scores
    assert sum("1 kept" in tip for tip in set(tips)) == 8
    assert found.all("img") == [] and "latentdc prune recipe.yaml" in found.text
    shown = Parsed(page.write(tmp_path / "x.html", [folder], real=lambda: train).read_text())
    images = [one["alt"] for one in shown.all("img")]
    ends = [*range(0, 10, 2), *range(1, 11, 2), *range(10, 0, -2), *range(11, 1, -2)]
    assert [float(alt.split("loss ")[1]) for alt in images] == ends


def test_a_sweep_shows_each_cells_images_and_curves_over_steps(tmp_path):
    made = []
    for steps, level in ((10, 0.25), (30, 0.5)):
        facts = {"dataset": "toy", "steps": steps, "method": "matching"}
        synthetic = synthetic_set(provenance=facts, images=torch.full((4, 3, 8, 8), steps).byte())
        cell = run_folder(tmp_path / f"{steps}-steps", synthetic, accuracies=(level, level))
        made += [
            dataclasses.replace(one, run=f"{steps} steps", seconds=steps * 1.0)
            for one in load(cell / "results.json")
        ]
    save(tmp_path / "results.json", made)
    found = Parsed(written(tmp_path))
    assert "2 synthetic sets of toy." in found.text and len(found.all("img")) == 8
    assert "highest mean test accuracy of 2 sets 50.0 ± 0.0 % (30 steps)" in found.text
    assert "10 steps, convnet3@4 25.0 %" in found.text
    for title in ("Accuracy and compute", "Accuracy over steps"):
        assert f"{title}: convnet3@4" in found.texts
    assert "Accuracy and storage: convnet3@4" in found.texts
    tips = [one.get("data-tip") for one in found.all("circle")]
    assert (
        "30 steps: 50.0 ± 0.0 %, 30 seconds" in tips and "10 steps: 25.0 ± 0.0 %, 10 steps" in tips
    )


def test_a_page_is_never_above_its_limit(tmp_path, monkeypatch):
    folder = run_folder(tmp_path, synthetic_set(10, side=64))
    monkeypatch.setattr(page, "ROOMS", (10**6, 60_000, 0))
    counts = []
    for largest in (10**6, 150_000, 50_000):
        monkeypatch.setattr(page, "LARGEST", largest)
        found = Parsed(written(folder))
        assert (folder / "report.html").stat().st_size <= largest
        counts.append(len(found.all("img")))
    assert counts[0] == 20 > counts[1] > counts[2] == 0
    assert page.LARGEST < 20 * 2**20


def test_the_seconds_of_sampled_stages_count_beside_the_steps_of_matching(tmp_path):
    facts = {"dataset": "toy", "method": "refine", "seconds": {"anchors": 2.0, "sampling": 5.0}}
    folder = run_folder(tmp_path, synthetic_set(provenance=facts))
    with (folder / "metrics.jsonl").open("a") as file:  # batches of sampling have no loss
        file.write('\n{"step": 31, "seconds": 5.0}\n')
    assert "; 22 seconds of distillation" in Parsed(written(folder)).text


def test_vectors_and_runs_that_evaluate_nothing_have_a_page(tmp_path):
    vectors = synthetic_set(images=torch.zeros(4, 6))
    found = Parsed(written(run_folder(tmp_path / "a", vectors)))
    assert "4 feature vectors of 6 values" in found.text and found.all("img") == []
    assert found.all("table")
    (tmp_path / "a/results.json").unlink()
    found = Parsed(written(tmp_path / "a"))
    assert "Loss over steps" in found.texts and not found.all("table")


@pytest.mark.parametrize("words", [["report"], ["compare", "--output", "x.html"]])
def test_what_holds_nothing_is_refused_in_one_line(tmp_path, capsys, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        cli.main([*words, str(tmp_path)])
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count("\n") == 1 and "holds no" in error


@pytest.mark.parametrize("name", ["mine.yaml", "results.json", "page"])
def test_a_page_takes_no_place_of_another_file(tmp_path, capsys, name):
    run_folder(tmp_path)
    (tmp_path / "mine.yaml").write_text("ipc: 1  # as in the paper")
    before = (tmp_path / "mine.yaml").read_text(), (tmp_path / "results.json").read_text()
    with pytest.raises(SystemExit) as end:
        cli.main(["report", str(tmp_path), "--output", str(tmp_path / name)])
    assert end.value.code == 2 and "a page, which ends in .html" in capsys.readouterr().err
    assert ((tmp_path / "mine.yaml").read_text(), (tmp_path / "results.json").read_text()) == before


def test_a_set_that_is_not_there_is_refused(folder, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["report", str(folder), "--against", "randon"])
    error = capsys.readouterr().err
    assert end.value.code == 2 and "there are mine, random" in error
    given = Parsed(written(folder, "--against", "mine")).text
    assert "minus mine (ipc 1)" in given


def test_a_comparison_is_a_page_too(tmp_path, capsys):
    folders = [run_folder(tmp_path / name) for name in "ab"]
    cli.main(["compare", *map(str, folders), "--output", str(tmp_path / "x.html")])
    assert capsys.readouterr().out == f"report: {tmp_path / 'x.html'}\n"
    assert "minus random" in Parsed((tmp_path / "x.html").read_text()).text
    evaluation = tmp_path / "evaluation.json"
    save(evaluation, table(mine=((0.5, 0.5),)))
    cli.main(["report", str(evaluation), "--output", str(tmp_path / "y.html")])
    assert "mine" in Parsed((tmp_path / "y.html").read_text()).text


def test_sets_are_told_beside_as_many_random_images_and_keep_their_colour(tmp_path):
    for name, ipc, digest in (("one", 1, "a"), ("ten", 10, "b")):
        given = {"ipc": ipc, "data": "toy", "machine": {"device": "cpu"}}
        rows = {"distilled": ((0.1 + 0.05 * ipc,) * 2,), "random": ((0.05 * ipc,) * 2,)}
        own = {"hashes": (digest,) * 2, "image_bytes": 100 * ipc, "seconds": 5.0 / ipc}
        random = {"image_bytes": 50 * ipc, "hashes": (f"random {ipc}",) * 2}
        made = table(None, {"all": given, "distilled": own, "random": random}, **rows)
        (tmp_path / name).mkdir()
        save(tmp_path / name / "results.json", made)
    path = page.write(tmp_path / "x.html", [tmp_path / "ten", tmp_path / "one"])
    assert "60.0 ± 0.0 %, of as many random real images 50.0 ± 0.0 %" in path.read_text()
    legends = re.findall(r'<ul class="legend">(.*?)</ul>', path.read_text(), re.S)
    storage, compute = (dict(re.findall(r'chip (s\d)"></span>(.*?)<', one)) for one in legends)
    assert len(storage) == 4 and len(compute) == 2 and compute.items() <= storage.items()


def test_a_page_of_several_runs_leaves_their_own_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folders = [run_folder(tmp_path / name) for name in ("one", "two")]
    before = written(folders[0])
    cli.main(["report", "one", "two"])
    assert "report: report.html" in capsys.readouterr().out
    assert (folders[0] / "report.html").read_text() == before
    assert "2 runs" in (tmp_path / "report.html").read_text()
    cli.main(["report", "one", "one/results.json"])
    assert "<h1>1 run</h1>" in (tmp_path / "report.html").read_text()
