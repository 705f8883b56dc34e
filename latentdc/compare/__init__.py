"""Compare the results of any runs: tables, paired differences, the accuracy-storage frontier.

`python -m latentdc.compare RUN ...`; nothing here imports torch.
"""
