"""Every way to hurt the cluster, by name. Each fault names what it needs of the machine; `needs.py` knows whether that
is there, and a fault whose needs are not met is skipped with the reason."""
