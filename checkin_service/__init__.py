"""The check-in service."""

import os

# Read by numpy when it is imported, so this stands before everything else. The products here gain nothing from a second
# thread, and OpenBLAS's threads wait for each other by spinning: on cores that the face workers need.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
