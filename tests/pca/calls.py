"""A call of `latentdc pca` that takes seconds."""

FAST = ["prune.scorer.epochs=2", "prune.scorer.network=convnet3@8", "prune.scorer.batch=64"]
SMALL = ["evaluate.students=[convnet3@2]", "evaluate.seeds=1", "evaluate.steps=2", "threads=1"]
CALL = ["pca_digits", *FAST, *SMALL, "evaluate.rows=[distilled,random]"]
