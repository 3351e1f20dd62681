"""`python -m pipeline`: the same as the command `sluice`, for parts that are started from an environment without it on the PATH."""

from pipeline.cli import main

if __name__ == "__main__":
    main()
