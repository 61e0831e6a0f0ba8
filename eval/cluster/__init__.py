"""Work in other processes, on this machine or on many: the parts of a run, and the jobs of a sweep, on Ray."""
