"""An ordeal for a real cluster: the leader is killed with -9 again and again under load, and nothing may be lost.

Five parts that know nothing of each other's inside: traffic, faults, validation, report, and the run that ties them.
"""
