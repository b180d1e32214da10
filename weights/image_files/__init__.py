"""What a file says beside its pixels never reaches a decoder: it is left out here, at a bounded cost.

Decoders spend seconds and gigabytes on comments, profiles, tags and further frames that nobody asked for.
"""
