"""The jobs: a module for each, so that a process that measures one imports nothing else."""
