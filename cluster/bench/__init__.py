"""`kibubu bench`: how many transfers and payments a second a synced three-node cluster takes on this machine."""
