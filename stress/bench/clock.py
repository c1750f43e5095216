"""Processor time."""


def processor_seconds() -> float:
    """Processor time of this process and of all children that it has waited for.

    `os.times` would do if it did not count in hundredths of a second.
    """
    # Not at the top: Windows has no such module, and can list the cases all the same.
    import resource

    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
