"""Benchmarks: this package beside what pip can install; `make bench`, results in bench/results."""

import os

# Threads that wait should sleep, not spin: on a machine with other work each product of two small matrices would else
# wait for a thread that is not running. It must be said before torch is imported, and holds for all contenders.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
