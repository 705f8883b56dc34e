"""Methods: what makes a synthetic set of a core set. They are peers, each in a file of its own.

A method knows neither recipes, run folders nor evaluation; `context` holds what it may use.
"""
