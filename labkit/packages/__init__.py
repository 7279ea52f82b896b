"""What an instructor hands out or uploads: `./lab package student|gradescope|classroom50`.

Each package is a course without solutions (`course`), with what its system wants to find around it. The stubs that
are elsewhere made from the solutions lie in it as files, in labkit/originals/.
"""
