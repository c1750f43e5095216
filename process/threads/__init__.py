"""The synchronous variant: a thread for each piped stream.

A byte goes through five stages: the pipe (`_platform`), the thread of its stream (`_reader`,
`_writer`), the buffer (`core`), the front of the stream object (`_files`), and the caller.
"""
