"""The cluster: submit a job to it, run its stages there, look at what it did. The only imports of Ray."""
