"""What a recipe would take, stage by stage, counted without weights and without data."""

from latentdc.cost.recipe import describe, stages
from latentdc.cost.stages import Hardware, Stage

__all__ = ["Hardware", "Stage", "describe", "stages"]
