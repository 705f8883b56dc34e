import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from latentdc import config
from latentdc.data.dataset import random_images
from latentdc.data.open import open_splits
from latentdc.errors import InputError
from latentdc.metrics.__main__ import main
from latentdc.metrics.measure import (
    Wanted,
    decoder_bytes,
    measure_saved,
    measure_set,
    seen_by,
    to_text,
)
from latentdc.networks import new_network
from latentdc.priors.load import load_prior
from latentdc.prune.scorers import Classifier
from latentdc.recipe import Data, PriorSettings, Recipe
from latentdc.synthetic.open import SetSource
from latentdc.synthetic.synthetic_set import SyntheticSet, set_hash
from tests.evaluate.toys import stripes


def measured(source, recipe, wanted, folder):
    given = {"prior": recipe.prior, "launch": recipe.launch}
    return measure_saved(source, recipe.data, wanted, folder, **given)


class Blank(nn.Module):
    """Every image has the same logits: all classes alike."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 3)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, images):
        return self.linear(images.mean(dim=(2, 3))[:, :2])


def test_a_set_is_measured_under_the_given_network():
    train, made = stripes(30), SyntheticSet.from_real(stripes(6, seed=2))
    network = Classifier(Blank(), lambda images: images)
    facts = measure_set(made, train, network, Wanted(), torch.device("cpu"))
    assert facts["entropy"] == pytest.approx(math.log(3))
    assert facts["agreement"] == pytest.approx(1 / 3)
    seen = made.images.double().mean(dim=(2, 3))[:, :2] / 255  # the images in [0, 1]
    pairs = [(seen[label] - seen[label + 3]).norm() for label in range(3)]
    assert facts["feature_diversity"]["mean"] == pytest.approx(float(sum(pairs) / 3), rel=1e-4)
    assert facts["storage"]["labels/int64"] == 48
    assert facts["storage"]["soft labels per epoch/float16"] == 6 * 3 * 2
    alone = measure_set(made, train, None, Wanted(), torch.device("cpu"))
    assert "entropy" not in alone and alone["storage"] == facts["storage"]


def test_float_images_and_soft_labels_of_others_are_counted_as_they_came():
    train, soft = stripes(30), torch.zeros(6, 3)
    images = torch.zeros(6, 3, 8, 8)
    brought = SyntheticSet(images, train.labels[:6], train.class_names, soft_labels=soft)
    sizes = measure_set(brought, train, None, Wanted(), torch.device("cpu"))["storage"]
    assert sizes["images/float32"] == 6 * 3 * 8 * 8 * 4
    assert sizes["soft_labels/float32"] == 6 * 3 * 4


@pytest.fixture
def saved(tmp_path):
    """A run with ten random digits for a set."""
    recipe = Recipe(data=Data(source="digits", resolution=16))
    source = torch.Generator().manual_seed(0)
    images = torch.randint(256, (10, 3, 16, 16), generator=source, dtype=torch.uint8)
    z = torch.zeros(10, *(4, 4, 4))
    names = tuple(str(digit) for digit in range(10))
    made = SyntheticSet(images=images, labels=torch.arange(10), class_names=names, z=z)
    made.save_pretrained(tmp_path / "synthetic", recipe=config.to_yaml(recipe))
    config.save(recipe, tmp_path / "recipe.yaml")
    return tmp_path, recipe


@pytest.mark.smoke
def test_a_saved_set_stands_beside_random_images_and_its_decoder(saved):
    folder, recipe = saved
    source = SetSource(str(folder), folder / "synthetic")
    content = measured(source, recipe, Wanted(), folder)
    assert json.loads((folder / "metrics.json").read_text()) == content
    assert list(content["sets"]) == ["distilled", "random"]
    assert content["sets"]["distilled"]["storage"]["decoder/float32"] > 0
    assert content["ipc"] == 1 and content["sets"]["random"]["images"] == 10
    png = content["sets"]["distilled"]["storage"]["images/png"]
    assert f"{png:,}" in to_text(content)


def test_a_set_is_seen_in_eval_mode():
    one = SyntheticSet.from_real(stripes(9))
    network = new_network("resnet20@2", num_classes=3, resolution=8, seed=0)
    classifier = Classifier(network, lambda images: images)
    evaluated = seen_by(classifier.eval(), one, torch.device("cpu"))
    assert seen_by(classifier.train(), one, torch.device("cpu")) == evaluated


def test_random_images_are_as_many_of_each_class_as_the_set_has(saved):
    folder, recipe = saved
    train, _ = open_splits(recipe.data)
    uneven = SyntheticSet.from_real(random_images(train, counts := [3, *[1] * 9], 5))
    uneven.save_pretrained(folder / "uneven", recipe=config.to_yaml(recipe))
    content = measured(SetSource("uneven", folder / "uneven"), recipe, Wanted(), folder)
    assert content["ipc"] == 2  # 12 images of 10 classes
    assert content["sets"]["random"]["hash"] == set_hash(random_images(train, counts, 0))


def test_a_set_whose_prior_is_not_here_is_measured_without_its_decoder(saved, capsys):
    folder, recipe = saved
    away = replace(recipe, prior=PriorSettings(kind="diffusion", weights="away"))
    content = measured(SetSource(str(folder), folder / "synthetic"), away, Wanted(), folder)
    assert "decoder/float32" not in content["sets"]["distilled"]["storage"]
    assert content["sets"]["distilled"]["storage"]["images/png"] > 0
    assert "the decoder's bytes are left out: " in capsys.readouterr().err


def test_wrong_input_ends_in_one_line_before_anything_is_read(saved, capsys, tmp_path):
    folder = str(saved[0])
    for arguments, message in [
        ([folder, "--ipc", "0"], "--ipc is at least 1, got 0"),
        ([folder, "ipc=3"], "changes nothing about a saved set"),
        ([folder, "--weights", "x"], "name it: --network NAME"),
        (
            [folder, "--network", "resnet20", "--weights", "nowhere"],
            "--weights: there is no file nowhere",
        ),
        ([folder, "--network", "resnet20", "--epochs", "0"], "--epochs is positive, got 0"),
        ([folder, "--network", "resnet20", "--size", "0"], "--size is positive, got 0"),
        ([folder, "--network", "linear"], "linear is a network of vectors"),
        ([folder, "--network", "convnet5"], "convnet5 takes images of"),
        ([folder, "--network", "vit", "--mean", "nan", "0", "0"], "error: --mean is a finite"),
        ([folder, "--mean", "0", "0", "0"], "--mean is about a network; name it: --network NAME"),
        ([str(tmp_path / "nothing")], "nothing"),
    ]:
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate.protocol=nowhere.yaml"], "nowhere.yaml"),
        (["evaluate.protocol=rded-small"], "redundancy is measured with hard labels"),
        (["evaluate.students=[linear]"], "linear"),
    ],
)
def test_the_protocol_of_increments_is_read_before_the_data(
    saved, capsys, monkeypatch, words, message
):
    monkeypatch.setattr("latentdc.metrics.measure.measure_saved", None)
    with pytest.raises(SystemExit) as end:
        main([str(saved[0]), "--redundancy", "1", *words])
    assert end.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("evaluate.students=[vit]", "evaluate.students: without effect beside measures that"),
        (
            "--redundancy 1 evaluate.seeds=2 evaluate.steps=3",
            "evaluate.seeds: without effect beside --redundancy, which trains one student",
        ),
    ],
)
def test_keys_that_no_measure_reads_are_told(saved, capsys, words, told):
    main([str(saved[0]), *words.split(), "--dry-run"])
    assert f"latentdc: note: {told}" in capsys.readouterr().err


def test_a_set_is_measured_though_its_protocol_is_gone(saved, capsys):
    recipe = replace(saved[1], evaluate=replace(saved[1].evaluate, protocol="/gone.yaml"))
    (saved[0] / "synthetic/recipe.yaml").write_text(config.to_yaml(recipe))
    main([str(saved[0]), "--dry-run"])
    assert "data" in capsys.readouterr().out


def test_a_decoder_is_counted_without_its_encoder():
    prior = load_prior(PriorSettings(weights="digits"), resolution=16)
    space, denoiser = prior.autoencoder.autoencoder, vars(prior.denoiser).values()
    parts = [space.decoder, space.post_quant_conv, *denoiser]
    networks = [part for part in parts if isinstance(part, nn.Module)]
    assert decoder_bytes(prior) == 4 * sum(p.numel() for n in networks for p in n.parameters())


def test_the_encoder_that_a_denoiser_has_turns_latents_into_images():
    network = nn.ModuleDict({"encoder": nn.Linear(10, 9), "decoder": nn.Linear(9, 10)})
    own = SimpleNamespace(autoencoder=None, denoiser=SimpleNamespace(network=network))
    assert decoder_bytes(own) == 4 * (10 * 9 + 9 + 9 * 10 + 10)


def test_a_set_of_other_classes_is_refused(saved):
    folder, _ = saved
    source = SetSource(str(folder), folder / "synthetic")
    other = Recipe(data=Data(source="digits", resolution=16, classes=["1", "2"]))
    with pytest.raises(InputError, match="10 classes, the test set 2"):
        measured(source, other, Wanted(), folder)
