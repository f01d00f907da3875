"""The job: what is to be done, typed, and read with messages that say how to mend it."""
