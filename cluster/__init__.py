"""How a job gets onto a cluster: one file per backend behind one protocol; knows nothing of sweeps."""
