"""How many requests something may make: the algorithms, over numbers that others keep.

Times are whole nanoseconds of a monotonic clock, which may stand still. What there is to remember
of a key is one number for the buckets and two counts for the window, so that it can lie in shared
memory and be added up over processes.
"""
