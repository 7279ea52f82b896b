"""What each command of `./lab` does, one module a command; labkit/cli.py reads the arguments."""
