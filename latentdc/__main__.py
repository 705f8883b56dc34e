"""`python -m latentdc COMMAND`, the same as `latentdc COMMAND`."""

from latentdc.cli import main

if __name__ == "__main__":
    main()
