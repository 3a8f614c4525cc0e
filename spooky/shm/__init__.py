"""The memory that all processes of an instance share: one segment, cut into tables.

Each cell is 8 aligned octets, which processors read and write whole, and has one writer. There
are no locks and no invariant spans two cells; readers add rows up.
"""
