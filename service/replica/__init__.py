"""The processes of a replica: their start, their death, their end, and what they share."""
