"""Expert trajectories: trainings on a core set, kept epoch by epoch for trajectory matching."""
