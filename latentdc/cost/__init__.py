"""What a recipe would take, stage by stage, counted without weights and without data."""

from latentdc.cost.commands import (
    describe,
    describe_evaluation,
    describe_experts,
    describe_measuring,
    describe_pruning,
    describe_sweep,
    stages,
)
from latentdc.cost.stages import Hardware, Stage

__all__ = [
    "Hardware",
    "Stage",
    "describe",
    "describe_evaluation",
    "describe_experts",
    "describe_measuring",
    "describe_pruning",
    "describe_sweep",
    "stages",
]
