"""latentdc: dataset distillation through frozen latent diffusion models.

The public API, resolved on first use: importing latentdc does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latentdc.checkpoint import in_folder as in_folder
    from latentdc.data.dataset import Dataset as Dataset
    from latentdc.data.open import open_dataset as open_dataset
    from latentdc.data.open import open_splits as open_splits
    from latentdc.evaluate.baselines import with_baselines as with_baselines
    from latentdc.evaluate.evaluate import evaluate_sets as evaluate_sets
    from latentdc.evaluate.loading import load_protocol as load_protocol
    from latentdc.methods.context import Context as Context
    from latentdc.methods.matching import match as match
    from latentdc.methods.mosaics import mosaic as mosaic
    from latentdc.methods.rded import rded as rded
    from latentdc.methods.refine import refine as refine
    from latentdc.methods.sampling import sampling as sampling
    from latentdc.methods.selection import selection as selection
    from latentdc.objectives.build import build_objective as build_objective
    from latentdc.preprocessing import Normalization as Normalization
    from latentdc.priors.base import Prior as Prior
    from latentdc.priors.load import load_prior as load_prior
    from latentdc.priors.sampler import Guide as Guide
    from latentdc.priors.sampler import StepState as StepState
    from latentdc.prune.coreset import Coreset as Coreset
    from latentdc.prune.prune import choose_coreset as choose_coreset
    from latentdc.prune.prune import prune_dataset as prune_dataset
    from latentdc.prune.score import score_dataset as score_dataset
    from latentdc.recipe import Data as Data
    from latentdc.recipe import Matching as Matching
    from latentdc.recipe import Mosaic as Mosaic
    from latentdc.recipe import ObjectiveSettings as ObjectiveSettings
    from latentdc.recipe import OwnGuide as OwnGuide
    from latentdc.recipe import PriorSettings as PriorSettings
    from latentdc.recipe import Prune as Prune
    from latentdc.recipe import Rded as Rded
    from latentdc.recipe import RuleSettings as RuleSettings
    from latentdc.recipe import Sampling as Sampling
    from latentdc.recipe import Scorer as Scorer
    from latentdc.recipe import Select as Select
    from latentdc.recipe import Selection as Selection
    from latentdc.recipe.protocol import EvalProtocol as EvalProtocol
    from latentdc.results.compare import Comparison as Comparison
    from latentdc.results.compare import compare as compare
    from latentdc.results.result import Result as Result
    from latentdc.results.result import Results as Results
    from latentdc.synthetic.synthetic_set import SyntheticSet as SyntheticSet

__version__ = "0.1.0"

_HOME = {
    "Comparison": "latentdc.results.compare:Comparison",
    "Context": "latentdc.methods.context:Context",
    "Coreset": "latentdc.prune.coreset:Coreset",
    "Data": "latentdc.recipe:Data",
    "Dataset": "latentdc.data.dataset:Dataset",
    "EvalProtocol": "latentdc.recipe.protocol:EvalProtocol",
    "Matching": "latentdc.recipe:Matching",
    "Guide": "latentdc.priors.sampler:Guide",
    "Mosaic": "latentdc.recipe:Mosaic",
    "Normalization": "latentdc.preprocessing:Normalization",
    "ObjectiveSettings": "latentdc.recipe:ObjectiveSettings",
    "OwnGuide": "latentdc.recipe:OwnGuide",
    "Prior": "latentdc.priors.base:Prior",
    "PriorSettings": "latentdc.recipe:PriorSettings",
    "Prune": "latentdc.recipe:Prune",
    "Rded": "latentdc.recipe:Rded",
    "Result": "latentdc.results.result:Result",
    "Results": "latentdc.results.result:Results",
    "RuleSettings": "latentdc.recipe:RuleSettings",
    "Sampling": "latentdc.recipe:Sampling",
    "Scorer": "latentdc.recipe:Scorer",
    "Select": "latentdc.recipe:Select",
    "Selection": "latentdc.recipe:Selection",
    "StepState": "latentdc.priors.sampler:StepState",
    "SyntheticSet": "latentdc.synthetic.synthetic_set:SyntheticSet",
    "build_objective": "latentdc.objectives.build:build_objective",
    "choose_coreset": "latentdc.prune.prune:choose_coreset",
    "compare": "latentdc.results.compare:compare",
    "evaluate_sets": "latentdc.evaluate.evaluate:evaluate_sets",
    "in_folder": "latentdc.checkpoint:in_folder",
    "load_prior": "latentdc.priors.load:load_prior",
    "load_protocol": "latentdc.evaluate.loading:load_protocol",
    "match": "latentdc.methods.matching:match",
    "mosaic": "latentdc.methods.mosaics:mosaic",
    "open_dataset": "latentdc.data.open:open_dataset",
    "open_splits": "latentdc.data.open:open_splits",
    "prune_dataset": "latentdc.prune.prune:prune_dataset",
    "rded": "latentdc.methods.rded:rded",
    "refine": "latentdc.methods.refine:refine",
    "sampling": "latentdc.methods.sampling:sampling",
    "score_dataset": "latentdc.prune.score:score_dataset",
    "selection": "latentdc.methods.selection:selection",
    "with_baselines": "latentdc.evaluate.baselines:with_baselines",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> object:
    if name in _HOME:
        module, _, attribute = _HOME[name].partition(":")
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module 'latentdc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
