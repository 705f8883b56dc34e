"""The rules of pruning: what looks at predictions, dynamics, features, or only draws and samples.

`latentdc/recipe/rules.py` lists them with their stage and direction. A new rule is a function in
the file of what it sees, its line there, its row in docs/pruning.md and a test.
"""
