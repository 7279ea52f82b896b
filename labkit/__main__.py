"""`python -m labkit`: the commands behind ./lab."""

from labkit.cli import run

if __name__ == "__main__":
    run()
