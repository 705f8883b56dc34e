"""`python -m latentdc.priors.train RECIPE`: the command `latentdc train-prior`."""
