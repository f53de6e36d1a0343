"""Which part of a data set is looked at when all of it would take too long."""


def spread(total: int, limit: int) -> list[int]:
    """At most `limit` of the indices 0 ... total - 1, evenly spaced and always the same ones; 0 takes all.

    The first ones would be a poor choice: data sets are often ordered by source or by length.

    >>> spread(10, 4)
    [0, 2, 5, 7]
    >>> spread(3, 0)
    [0, 1, 2]
    """
    if limit <= 0 or limit >= total:
        return list(range(total))
    return [i * total // limit for i in range(limit)]
