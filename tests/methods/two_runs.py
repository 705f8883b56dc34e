"""Run by torchrun: `latentdc distill` for each list of words, one after the other."""

import json
import sys

from latentdc.distill import main

for words in json.loads(sys.argv[1]):
    main(words)
