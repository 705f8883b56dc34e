"""The named subsets of ImageNet: which classes, in which order, found in any copy of the data."""

import pytest
import torch
from torchvision.datasets.imagenette import Imagenette
from torchvision.models import ResNet18_Weights

from latentdc.data.classes import chosen_names
from latentdc.data.open import open_dataset
from latentdc.errors import InputError
from latentdc.recipe import Data, subsets
from latentdc.recipe.subsets import (
    ALIASES,
    SUBSETS,
    imagenet_indices,
    subset_indices,
    subset_names,
    wordnet_ids,
)
from tests.data.conftest import picture

# WordNet ids of the subsets that the papers score on.
PUBLISHED = {
    "imagenette": """n01440764 n02102040 n02979186 n03000684 n03028079
        n03394916 n03417042 n03425413 n03445777 n03888257""",
    "imagewoof": """n02096294 n02093754 n02111889 n02088364 n02086240
        n02089973 n02087394 n02115641 n02099601 n02105641""",
    "fruits": """n07753275 n07753592 n07745940 n07747607 n07749582
        n07768694 n07753113 n07720875 n07718472 n07742313""",
    "yellow": """n02206856 n12057211 n07753592 n07749582 n12144580
        n04146614 n03530642 n02129165 n01773157 n01531178""",
    "cats": """n02123045 n02123159 n02123394 n02123597 n02124075
        n02129165 n02129604 n02128925 n02128757 n02127052""",
    "birds": """n01806143 n02007558 n01818515 n02051845 n02056570
        n01614925 n01843383 n01518878 n01860187 n01819313""",
    "geo": """n09472597 n09193705 n09332890 n09288635 n09256479
        n09421951 n09399592 n09428293 n09246464 n09468604""",
    "food": """n07697313 n07697537 n07695742 n07873807 n07684084
        n07614500 n07583066 n07831146 n07693725 n07613480""",
    "mammals": """n02504458 n02509815 n02437312 n02391049 n02364673
        n01877812 n01873310 n02120079 n02346627 n02480855""",
    "marine": """n02071294 n01484850 n02655020 n02317335 n01664065
        n02077923 n01910747 n01914609 n01978455 n02606052""",
    "a": """n02111129 n02489166 n11879895 n02457408 n03042490
        n12057211 n02342885 n03447447 n02071294 n02013706""",
    "b": """n02006656 n06359193 n01820546 n02116738 n13044778
        n04487081 n01872401 n02112018 n03841143 n02025239""",
    "c": """n03393912 n01833805 n03344393 n03208938 n01828970
        n02606052 n02129165 n02017213 n02280649 n01531178""",
    "d": """n01518878 n02111889 n01534433 n02112706 n01592084
        n02389026 n02276258 n01622779 n01829413 n02277742""",
    "e": """n04277352 n01843383 n01860187 n02056570 n03992509
        n03924679 n04153751 n01774750 n03857828 n02281787""",
}
UNPUBLISHED = {  # the first and the last class of the lists that only the code has
    "imageblub": ("rock beauty", "American lobster"),
    "imagewind": ("sax", "harmonica"),
    "imagesport": ("baseball", "puck"),
    "imageherp": ("axolotl", "agama"),
    "imagewheels": ("fire engine", "mountain bike"),
    "imagemisc": ("bubble", "cowboy boot"),
    "imageveg": ("bubble", "spaghetti squash"),
    "imagebug": ("ladybug", "scorpion"),
    "mascots": ("Scotch terrier", "drake"),
    "alyosha": ("tiger", "brown bear"),
    "custom": ("goldfish", "cello"),
}
ALL = sorted(SUBSETS)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_published_subset_has_the_wordnet_ids_of_its_paper(name):
    assert [wordnet_ids()[index] for index in subset_indices(name)] == PUBLISHED[name].split()


def test_the_other_subsets_have_ten_classes_from_first_to_last():
    assert {*PUBLISHED, *UNPUBLISHED} == {*SUBSETS}
    assert all(len(set(indices)) == 10 for indices in SUBSETS.values())
    ends = {name: tuple(imagenet_indices(names)) for name, names in UNPUBLISHED.items()}
    assert ends == {name: (SUBSETS[name][0], SUBSETS[name][-1]) for name in UNPUBLISHED}


def test_older_names_mean_the_same_subsets():
    assert {key: subset_indices(key) for key in ALIASES} == {
        "imagefruit": SUBSETS["fruits"],
        "imageyellow": SUBSETS["yellow"],
        "imagemeow": SUBSETS["cats"],
        "imagesquawk": SUBSETS["birds"],
    }


@pytest.mark.parametrize("name", ALL)
def test_data_and_prior_agree_whatever_the_data_set_calls_its_classes(name):
    """Folders by WordNet id, the Hub's names, torchvision's: each leads to the same columns."""
    for names in (
        list(wordnet_ids()),
        [synonyms for _, synonyms in subsets._rows()],
        ResNet18_Weights.DEFAULT.meta["categories"],
    ):
        kept = subset_names(names, name, "it")
        assert tuple(imagenet_indices(kept)) == SUBSETS[name]
        assert [names.index(other) for other in kept] == list(SUBSETS[name])


def test_a_folder_of_wordnet_ids_is_opened_in_the_order_of_the_subset(tmp_path):
    ids = PUBLISHED["imagewoof"].split()
    for seed, wordnet_id in enumerate(["n01440764", *ids]):
        for split in ("train", "val"):
            folder = tmp_path / "tree" / split / wordnet_id
            folder.mkdir(parents=True)
            picture(seed).save(folder / "0.png")
    data = open_dataset(
        Data(source=str(tmp_path / "tree"), resolution=8, subset="imagewoof"), "train"
    )
    assert list(data.class_names) == ids and data.labels.tolist() == list(range(10))
    levels = torch.frombuffer(bytearray(picture(1).tobytes()), dtype=torch.uint8)
    assert torch.equal(data.images[0], levels.view(8, 8, 3).permute(2, 0, 1))


def test_a_data_set_without_some_of_the_classes_is_refused():
    names = [*PUBLISHED["a"].split()[1:], "airplane"]
    with pytest.raises(InputError, match=r"it lacks 1 of its 10 classes \(n02111129\)"):
        chosen_names(names, Data(source="x", subset="a"), "it")


def test_all_of_imagenet_can_be_chosen_from_by_number():
    chosen = Data(source="x", classes=["217", "0"])
    ids = wordnet_ids()
    assert chosen_names(ids, chosen, "it") == [ids[217], ids[0]]
    names = ["tench, Tinca tinca", *(synonyms for _, synonyms in subsets._rows()[1:])]
    assert chosen_names(names, chosen, "it") == [names[217], names[0]]
    with pytest.raises(InputError, match="it has no class '217'"):
        chosen_names(ids[:999], chosen, "it")


def test_a_class_under_two_names_is_refused():
    names = [*PUBLISHED["imagenette"].split(), "tench"]
    with pytest.raises(InputError, match="n01440764 under several names"):
        subset_names(names, "imagenette", "it")


def test_wrong_subsets_are_refused_by_the_recipe():
    with pytest.raises(InputError, match=r"'imagenete'; did you mean 'imagenette'\?"):
        Data(source="x", subset="imagenete")
    with pytest.raises(InputError, match="both choose classes"):
        Data(source="x", subset="a", classes=["tench", "church"])
    with pytest.raises(InputError, match=r"part of ImageNet, and data\.source is digits"):
        Data(subset="a")


INDICES = [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]


def test_imagenettes_classes_are_found_by_id_and_by_name():
    classes = Imagenette._WNID_TO_CLASS
    assert imagenet_indices(list(classes)) == INDICES
    assert imagenet_indices([", ".join(names) for names in classes.values()]) == INDICES
    assert imagenet_indices([names[0] for names in classes.values()]) == INDICES


def test_the_whole_of_imagenet_is_in_its_own_order_by_id_and_by_torchvisions_names():
    assert imagenet_indices(wordnet_ids()) == list(range(1000))
    assert sorted(wordnet_ids()) == list(wordnet_ids())
    assert imagenet_indices(ResNet18_Weights.DEFAULT.meta["categories"]) == list(range(1000))


def test_upper_case_tells_the_dog_from_the_coat():
    assert imagenet_indices(["Cardigan", "cardigan"]) == [264, 474]


def test_an_unknown_class_is_named():
    with pytest.raises(InputError, match="ImageNet-1k has no class 'airplane'"):
        imagenet_indices(["tench", "airplane"])


def test_a_name_of_two_classes_needs_its_id():
    with pytest.raises(InputError, match="'crane' may be any of ImageNet's n02012849, n03126707"):
        imagenet_indices(["tench", "crane"])
