"""Trimmed mini-batches: what is left out, for how long it holds, and that runs go on bitwise."""

import json
from dataclasses import replace

import pytest
import torch

from latentdc.draws import generator
from latentdc.errors import InputError
from latentdc.images import MappedImages
from latentdc.methods.real import RealBatches, Trimming, in_tails, relative_levels, updated
from latentdc.priors.pixel import PixelPrior
from latentdc.recipe import Matching, ObjectiveSettings, Recipe, Trim
from tests.methods import setup
from tests.methods.test_classes import Pull
from tests.methods.test_loop import TotalVariance
from tests.priors import small

TRIM = Trim(share=0.4, refresh=3)


def same(one, other) -> bool:
    return all(
        torch.equal(getattr(one, name), getattr(other, name)) for name in ("images", "z", "labels")
    )


def test_both_ends_of_a_normal_are_left_out():
    levels = torch.tensor([-2.0, -1.2, 0.0, 1.2, 2.0])
    standard = torch.tensor([0.0, 1.0])  # quantiles of 10 % and 90 %: +-1.2816
    assert in_tails(levels, standard, 0.2).tolist() == [True, False, False, False, True]
    shifted = torch.tensor([1.0, 1.25])  # mean 1, standard deviation 0.5: 0.36 to 1.64
    assert in_tails(levels, shifted, 0.2).tolist() == [True, True, True, False, True]


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_of_effects_that_are_lognormal_the_wanted_share_is_left_out(share):
    lengths = torch.randn(20_000, generator=generator(0), dtype=torch.float64).mul(0.5).exp()
    levels = relative_levels(lengths)
    out = in_tails(levels, updated(None, levels), share)
    assert out.double().mean() == pytest.approx(share, abs=0.01)
    assert out[lengths > lengths.median()].sum() == pytest.approx(int(out.sum()) / 2, rel=0.05)


def test_levels_do_not_depend_on_the_scale_of_a_student():
    lengths = torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(relative_levels(7 * lengths), (lengths / 2).log())
    assert relative_levels(torch.zeros(3)).isfinite().all()


def test_the_running_mean_and_mean_square_forget_by_a_tenth():
    first = updated(None, torch.tensor([0.0, 2.0]))
    assert first.tolist() == [1.0, 2.0]
    assert updated(first, torch.tensor([3.0, 3.0])).tolist() == pytest.approx([1.2, 2.7])


def test_what_is_left_out_is_missing_from_batches_unless_none_would_stay():
    real = RealBatches(setup.dataset(), range(3), batch=4, seed=0)
    whole, places = real(2, 1), real.places(2, 1)
    out = torch.zeros(6, dtype=torch.bool)
    out[places[1]] = True
    real.leave_out(1, out)
    assert torch.equal(real(2, 1), whole[[0, 2, 3]]) and torch.equal(real.whole(2, 1), whole)
    assert len(real(2, 0)) == 4, "other classes are whole"
    real.leave_out(1, torch.ones(6, dtype=torch.bool))
    assert torch.equal(real(2, 1), whole)


def test_what_was_read_ahead_is_read_again_once_an_image_is_left_out(tmp_path):
    data = setup.dataset()
    path = tmp_path / "images.bin"
    path.write_bytes(data.images.numpy().tobytes())
    mapped = replace(data, images=MappedImages.open(path, tuple(data.images.shape)))
    far, near = (RealBatches(d, range(3), batch=4, seed=0) for d in (mapped, data))
    far.expect(0, [0, 1, 2])
    for real in (far, near):
        out = torch.zeros(6, dtype=torch.bool)
        out[real.places(0, 1)[:2]] = True
        real.leave_out(1, out)
    for label in range(3):
        assert torch.equal(far(0, label), near(0, label))
    assert len(far(0, 1)) == 2


class Known:
    """An objective whose effects are the brightness of real images; notes when it is asked."""

    def __init__(self):
        self.asked = []

    def effects(self, step, synthetic, labels, real, *, classes, form):
        for label in classes:
            self.asked.append((step, label))
            yield real(step, label).add(1).mean((1, 2, 3))


def trimming(data, refresh=3, batch=4, share=0.4):
    real = RealBatches(data, range(3), batch=batch, seed=0)
    return Trimming(Trim(share=share, refresh=refresh), Known(), real)


def test_effects_are_looked_at_whenever_a_class_is_met_so_many_more_times():
    kept = trimming(setup.dataset())
    met = [(0, 1), (0, 2), (0, 1), (0, 1, 2), (0,), (0, 1, 2)]
    for step, labels in enumerate(met):
        kept.update(step, torch.zeros(1), torch.tensor(labels).repeat_interleave(2))
    assert kept.objective.asked == [(0, 0), (0, 1), (1, 2), (3, 0), (3 + 2, 1)]


def test_what_is_known_of_an_image_holds_until_it_is_met_in_a_step_that_looks():
    kept = trimming(setup.dataset(per_class=40), refresh=2, batch=8)
    labels = torch.tensor([0, 1, 2])
    kept.update(0, torch.zeros(1), labels)
    first = kept.real.left_out[0].clone()
    assert 0 < first.sum() < 8 and kept.left_out > 0
    kept.update(1, torch.zeros(1), labels)
    assert torch.equal(kept.real.left_out[0], first)
    kept.update(2, torch.zeros(1), labels)
    untouched = torch.ones(40, dtype=torch.bool)
    untouched[kept.real.places(2, 0)] = False
    assert torch.equal(kept.real.left_out[0][untouched], first[untouched])


def test_the_images_of_least_and_of_largest_effect_are_left_out():
    data = setup.dataset(per_class=40)
    kept = trimming(data, batch=99)
    kept.update(0, torch.zeros(1), torch.tensor([0, 1, 2]))
    out = kept.real.left_out[1]
    brightness = data.images[data.members(1)].float().mean((1, 2, 3))
    inside = brightness[~out]
    assert out.any() and all(not inside.min() < b < inside.max() for b in brightness[out])
    assert (brightness[out] < inside.min()).any() and (brightness[out] > inside.max()).any()


def run(*place, **options):
    """In the space of pixels, which is the quickest; the prior is of no account here."""
    return setup.run(*place, prior=PixelPrior(8), **options)


@pytest.mark.smoke
@pytest.mark.parametrize("kind", ["dm", "dc"])
def test_a_share_of_zero_is_a_run_without_trimming_bitwise_and_another_share_is_not(kind):
    plain = run(kind=kind, steps=4)
    assert same(plain, run(kind=kind, steps=4, trim=Trim(share=0.0, refresh=1)))
    assert not same(plain, run(kind=kind, steps=4, trim=TRIM))


@pytest.mark.parametrize(
    ("kind", "classes_per_step"), [("dm", None), ("dm", 2), ("dc", 2), ("dc loops", None)]
)
def test_a_continued_run_ends_bitwise_as_an_uninterrupted_one(tmp_path, kind, classes_per_step):
    options = {"kind": kind, "classes_per_step": classes_per_step, "trim": TRIM}
    whole = run(tmp_path / "whole", **options)
    run(tmp_path / "parts", steps=5, **options)  # between two looks
    assert same(whole, run(tmp_path / "parts", **options))
    told = [json.loads(x) for x in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    shares = [line["trimmed"] for line in told]
    assert max(shares) > 0 and all(0 <= share < 1 for share in shares)


def test_without_what_was_known_a_continued_run_would_end_elsewhere(tmp_path, monkeypatch):
    whole = run(trim=TRIM)
    run(tmp_path, steps=5, trim=TRIM)
    monkeypatch.setattr(Trimming, "restore", lambda self, state: None)
    assert not same(whole, run(tmp_path, trim=TRIM))


def test_a_folder_of_a_run_with_other_trimming_is_refused(tmp_path):
    run(tmp_path, steps=2, trim=TRIM)
    with pytest.raises(InputError, match=r"made with trim {'share': 0\.4.*this run has None"):
        run(tmp_path, steps=4)


@pytest.mark.parametrize("prior", [PixelPrior(8), small.prior(steps=2)], ids=["pixel", "diffusion"])
def test_effects_are_those_on_decoded_images_and_never_decode_anything(prior, monkeypatch):
    calls = []
    decode = type(prior).decode
    monkeypatch.setattr(
        type(prior), "decode", lambda self, *a: (calls.append(1), decode(self, *a))[1]
    )
    setup.run(prior=prior, steps=4)
    plain, calls[:] = len(calls), []
    setup.run(prior=prior, steps=4, trim=replace(TRIM, refresh=1))
    assert len(calls) == plain


def test_batches_too_small_for_two_ends_stay_whole():
    assert same(run(batch=2), run(batch=2, trim=TRIM))


def test_trimming_is_refused_where_no_single_image_has_an_effect():
    with pytest.raises(InputError, match=r"trim\.share=0\.2, but objective\.kind=mtt looks at no"):
        Recipe(objective=ObjectiveSettings(kind="mtt"), distill=Matching(trim=Trim(share=0.2)))
    with pytest.raises(InputError, match=r"share of a batch in .* for 20 % write 0\.2"):
        Trim(share=20)
    with pytest.raises(InputError, match=r"distill\.trim\.refresh is at least 1, got 0"):
        Trim(refresh=0)
    for objective in (Pull(), TotalVariance()):
        with pytest.raises(InputError, match=r"(TotalVariance|Pull) cannot tell"):
            setup.match(setup.dataset(), PixelPrior(8), objective, Matching(trim=TRIM))
