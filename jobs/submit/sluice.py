"""The command `sluice` as a script: spark-submit runs files, no commands. What it does is what the command does."""

from pipeline.cli import main

if __name__ == "__main__":
    main()
