"""How fast the library is beside the standard library: `python -m stress bench`.

Theory of operation. A case is one job, written once with this library and once in the standard
library's way. `command` measures the two in turn, round after round, so that whatever else the
machine does strikes both; each measurement is a process of its own (`measure`), which imports
little, warms up, takes the time around the job alone, and afterwards looks at what came out. Of the
rounds the medians are compared (`summary`), and shown beside what is allowed (`table`).
"""
