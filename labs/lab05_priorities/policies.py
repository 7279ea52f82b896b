"""The four policies by their names, and which one is asked for. Given: nothing here is to be changed."""

import os

import fair
import reliable
import sorted_set
import strict

POLICIES = {"strict": strict, "sorted": sorted_set, "fair": fair, "reliable": reliable}
POLICY = os.environ.get("POLICY", "strict")  # what --policy says goes first
