"""Real data sets: opened once, decoded once, indexed in batches."""
