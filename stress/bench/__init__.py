"""How fast the library is beside the standard library: `python -m stress bench`.

Theory of operation. A case is one job, written once with this library and once in the standard
library's way. `command` measures the two in turn, round after round, so that other load on
the machine affects both; each measurement is a process of its own (`measure`), which imports
little, warms up, takes the time around the job alone, and checks the result afterwards.

Some jobs are a loop of calls (`calls`): they take the time of one call themselves, while the child
runs. Waking a process on another core costs more than the call, so these are pinned to one core,
and the least of their rounds is compared; of all others the medians (`summary`). Wall and processor
time are shown beside the limit, which is for wall time (`table`).
"""
